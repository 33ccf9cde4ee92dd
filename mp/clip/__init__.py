"""CLIP, frozen.

model        the two towers, written out
attention    of whole sequences, of texts with a common beginning, and of a last layer's wanted tokens
derivatives  operations with first and second derivatives of their own
packing      texts without padding, and padded
tokenizer    text to token ids, and back
weights      `load`: a CLIP with the weights of a file, or what is refused of it
checkpoint   the kinds of files that weights come in
download     OpenAI's ViT-B/16, fetched once
"""

CONTEXT_LENGTH = 77
VOCABULARY = 49408
