"""Run a frozen CLIP.

model        the two towers, written out
attention    the plain way, and the short way for texts that begin alike, with a picture
packing      texts one after another without padding, and in a rectangle
derivatives  layer norm and SiLU with a first and second derivative in few operations
tokenizer    text to token ids, and back
weights      `load` a CLIP with the weights of a file, or say why they can't be used
checkpoint   the kinds of files that weights come in
download     OpenAI's ViT-B/16, fetched once
"""

CONTEXT_LENGTH = 77
VOCABULARY = 49408
