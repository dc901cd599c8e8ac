/* The head of a GGUF file: from it, what a token of the model's context takes. Pure: bytes in, numbers out; any bytes may come.
 *
 * The file begins with pairs of a name and a value, the model's own before the tokenizer's long lists. Facts: ggml's docs/gguf.md and
 * llama.cpp's src/llama-arch.cpp and llama-hparams.cpp, as of 2026-10. */
#pragma once

#include <stddef.h>

#include "policy/fits.h"

#define GGUF_FIRST_BYTES ((size_t)64 << 10)     /* enough for nearly all */
#define GGUF_MOST_BYTES  ((size_t)1 << 20)

/* All but weights_bytes is filled. token_bytes is -1 where nobody can compute it: a model whose keys and values are stored in another way (MLA,
 * layers with a state instead), or one of no layers. 0; -EAGAIN: that has to be told by bytes further on; -EBADMSG: it is no such file. */
int gguf_read_shape(const void *data, size_t n, struct fits_model *ret);
