"""Run a frozen CLIP.

model        the two towers, written out
attention    of whole sequences, of texts with a common beginning, and of a last layer's wanted tokens
packing      texts without padding, and padded
derivatives  layer norm and SiLU with a first and second derivative in few operations
tokenizer    text to token ids, and back
weights      `load`: a CLIP with the weights of a file, or what is refused of it
checkpoint   the kinds of files that weights come in
download     OpenAI's ViT-B/16, fetched once
"""

CONTEXT_LENGTH = 77
VOCABULARY = 49408
