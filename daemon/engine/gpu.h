/* What cards a machine has, how much memory is free, and whether the cards are really used. Pure: the words of nvidia-smi and npu-smi in, facts out; any bytes may
 * come. The script that asks them is gpu_script.
 *
 * An engine says what it plans; a half-unpacked one plans the GPU and computes on the processor. So the memory of the cards before and
 * after a load is what counts (reference: NVIDIA's nvidia-smi(1) for the fields; texts of its errors from public issues, 2026-11). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GPU_CARDS_MAX 16

enum gpu_kind {
    GPU_UNKNOWN,        /* never asked, or no answer that makes sense */
    GPU_NONE,           /* neither nvidia-smi nor npu-smi is there */
    GPU_NVIDIA,
    GPU_ASCEND,         /* an NPU: neither ollama nor a CUDA build can use it */
};

struct gpu_card {
    char name[64];      /* "NVIDIA GeForce RTX 4090", "910B2" */
    int64_t total_bytes, used_bytes;    /* -1: unknown */
};

struct gpu_facts {
    enum gpu_kind kind;
    unsigned n;
    struct gpu_card cards[GPU_CARDS_MAX];
    char driver[32];            /* "550.54.14", "" */
    int capability;             /* of the weakest card, 89 for 8.9; -1: unknown */
    int64_t host_free_bytes;    /* of the machine's own memory, within the limit of its container; -1: unknown */
    const char *trouble;        /* nvidia-smi does not work: what that means; static, NULL: it does */
};

/* For any POSIX sh. Its answer is a line "chip=KIND", then what the tool says. */
extern const char gpu_script[];

void gpu_read(const char *text, size_t n, struct gpu_facts *ret);
/* Of all cards, -1: unknown. */
int64_t gpu_used_bytes(const struct gpu_facts *f);
int64_t gpu_total_bytes(const struct gpu_facts *f);
/* Where a model goes: on the cards, or where there is none the machine's own memory. -1: unknown. */
int64_t gpu_free_bytes(const struct gpu_facts *f);

enum gpu_verdict {
    GPU_UNMEASURED,     /* nothing is known about it */
    GPU_WHOLE,          /* the model is in the cards' memory */
    GPU_PART,
    GPU_NOT_USED,       /* it runs on the processor */
};
const char *gpu_verdict_name(enum gpu_verdict v);   /* Model.processor of the contract: NULL gpu partly cpu */
/* model_bytes: how much a load should have taken; before and after: gpu_used_bytes(), -1 unknown. */
enum gpu_verdict gpu_judge(int64_t model_bytes, int64_t before, int64_t after);
