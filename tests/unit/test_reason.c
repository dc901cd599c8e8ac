/* links: engine
 *
 * Why a server ended, from its own words and from how it ended. Lines as the reference has them (reference/runtimes.md §1.3, §2.8, §3.4, §8), or as
 * ollama 0.11.4, 0.32.15, llama-server 0.7.0, glibc and the kernel said them here (2026-11). */
#include "engine/reason.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "proto/mem.h"

static const struct reason_end unknown = {.status = -1, .kills = -1, .limit_bytes = -1};

Test(reason, words_of_engines_drivers_and_kernels)
{
    static const struct {
        const char *line, *code, *says;
        enum fault_kind kind;
    } rows[] = {
        {"ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2375.91 MiB on device 0: cudaMalloc failed: out of memory",
         "out_of_memory", "2375.91 MiB", FAULT_EXHAUSTED},
        {"alloc_tensor_range: unable to allocate CUDA0 buffer", "out_of_memory", "CUDA0", FAULT_EXHAUSTED},
        {"CUDA error: out of memory", "out_of_memory", "CUDA", FAULT_EXHAUSTED},
        {"llama-server reported out-of-memory during startup: ErrorOutOfDeviceMemory", "out_of_memory", "startup", FAULT_EXHAUSTED},
        {"hipMalloc failed: 2", "out_of_memory", "hip", FAULT_EXHAUSTED},
        {"model requires more system memory (13.0 GiB) than is available (7.5 GiB)", "machine_out_of_memory", "13.0 GiB",
         FAULT_EXHAUSTED},
        {"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 8589934592", "machine_out_of_memory", "8589934592",
         FAULT_EXHAUSTED},
        {"alloc_tensor_range: failed to allocate CPU buffer of size 8589934592", "machine_out_of_memory", "CPU", FAULT_EXHAUSTED},
        {"ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version", "driver_unfit",
         "driver is too old", FAULT_GONE},
        {"llama-server: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file or directory",
         "driver_unfit", "no NVIDIA driver", FAULT_GONE},
        {"Failed to initialize NVML: Driver/library version mismatch", "driver_unfit", "restart the machine", FAULT_GONE},
        {"CUDA error: no kernel image is available for execution on the device", "gpu_unfit", "not built for", FAULT_GONE},
        {"ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", "gpu_unfit", "without a card", FAULT_GONE},
        {"level=WARN msg=\"no compatible GPUs were discovered\"", "gpu_unfit", "no card", FAULT_GONE},
        {"llama runner process has terminated: signal: illegal instruction (core dumped)", "cpu_unfit", "AVX", FAULT_GONE},
        {"./llama-server: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by ./llama-server)",
         "library_missing", "newer system", FAULT_GONE},
        {"ollama: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory",
         "library_missing", "libcudart.so.12", FAULT_GONE},
        {"write /root/.ollama/models/blobs/sha256-1-partial: no space left on device", "disk_full", "sha256-1", FAULT_EXHAUSTED},
        {"Error: listen tcp 127.0.0.1:21000: bind: address already in use", "port_taken", "21000", FAULT_TRANSIENT},
        {"start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 21000", "port_taken", "21000", FAULT_TRANSIENT},
        {"tensor 'x' data is not within the file bounds, model is corrupted or incomplete", "model_unreadable", "corrupted",
         FAULT_INVALID},
        {"unable to load model: /m/blobs/sha256-1", "model_unreadable", "sha256-1", FAULT_INVALID},
        {"llama runner process has terminated: signal: killed", "engine_crashed", "killed", FAULT_TRANSIENT},
        {"model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs "
         "for details",
         "engine_crashed", "internal error", FAULT_TRANSIENT},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct reason_end end = unknown;
        struct fault f = {};

        cr_assert(reason_of_words(&f, "tiny cannot be loaded", rows[i].line), "%s", rows[i].line);
        cr_assert_str_eq(f.code, rows[i].code, "%s: %s", rows[i].line, f.code);
        cr_assert_eq(f.kind, rows[i].kind, "%s", rows[i].line);
        cr_assert_not_null(strstr(f.text, rows[i].says), "%s", f.text);
        cr_assert_eq(strncmp(f.text, "tiny cannot be loaded: ", 23), 0, "%s", f.text);
        end.line = rows[i].line;
        end.status = 1;
        reason_of_end(&f, "ollama ended on gpu1", &end);
        cr_assert_str_eq(f.code, rows[i].code, "%s: %s", rows[i].line, f.code);
    }
}

Test(reason, words_of_anything_else_are_none)
{
    static const char *const lines[] = {"", "pull model manifest: file does not exist", "dial tcp: lookup r.example: no such host",
                                        "digest mismatch", "error: invalid argument: --no-webui"};
    struct fault f = {};

    for (size_t i = 0; i < ELEMENTS(lines); i++)
        cr_assert_not(reason_of_words(&f, "x", lines[i]), "%s", lines[i]);
    cr_assert_eq(f.kind, FAULT_NONE);
}

Test(reason, how_it_ended_counts_where_words_do_not)
{
    static const struct {
        struct reason_end end;
        const char *code, *text;
        enum fault_kind kind;
    } rows[] = {
        {{.status = 128 + SIGKILL, .kills = 1, .limit_bytes = 2147483648}, "machine_out_of_memory",
         "ollama ended on gpu1: the kernel killed it, because the machine's memory was used up (its limit is 2.1 GB)", FAULT_EXHAUSTED},
        {{.line = "error: signal: killed", .status = 128 + SIGKILL, .kills = 2, .limit_bytes = -1}, "machine_out_of_memory",
         "ollama ended on gpu1: the kernel killed it, because the machine's memory was used up", FAULT_EXHAUSTED},
        {{.last_words = "slots are idle", .status = 128 + SIGKILL, .kills = 0}, "engine_crashed",
         "ollama ended on gpu1, by SIGKILL; its log ends with: slots are idle", FAULT_TRANSIENT},
        {{.status = 128 + SIGSEGV, .kills = 1}, "engine_crashed", "ollama ended on gpu1, by SIGSEGV", FAULT_TRANSIENT},
        {{.line = "GGML_ASSERT failed", .status = 128 + SIGABRT}, "engine_crashed", "ollama ended on gpu1, by SIGABRT: GGML_ASSERT failed",
         FAULT_TRANSIENT},
        {{.line = "CUDA error: out of memory", .status = 128 + SIGABRT, .kills = 0}, "out_of_memory",
         "ollama ended on gpu1: CUDA error: out of memory", FAULT_EXHAUSTED},
        {{.last_words = "loading", .status = 128 + SIGILL}, "cpu_unfit",
         "ollama ended on gpu1: the machine's processor lacks instructions it was built with (AVX, mostly): illegal instruction", FAULT_GONE},
        {{.status = 128 + 40}, "engine_crashed", "ollama ended on gpu1, by signal 40", FAULT_TRANSIENT},
        {{.status = 3}, "engine_exited", "ollama ended on gpu1 with status 3, and its log does not say why", FAULT_GONE},
        {{.status = 0, .last_words = "bye"}, "engine_exited",
         "ollama ended on gpu1 with status 0, and its log does not say why; it ends with: bye", FAULT_GONE},
        {{.line = "panic: $HOME is not defined", .status = 2}, "engine_exited", "ollama ended on gpu1: panic: $HOME is not defined",
         FAULT_GONE},
        {{.status = -1}, "engine_exited", "ollama ended on gpu1, and its log does not say why", FAULT_GONE},
        {{.line = "bind: address already in use", .status = 1, .owner = "python3 (pid 77)"}, "port_taken",
         "ollama ended on gpu1: its port was taken by python3 (pid 77): bind: address already in use", FAULT_TRANSIENT},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct fault f = {};

        reason_of_end(&f, "ollama ended on gpu1", &rows[i].end);
        cr_assert_str_eq(f.code, rows[i].code, "row %zu: %s", i, f.text);
        cr_assert_str_eq(f.text, rows[i].text, "row %zu: %s", i, f.text);
        cr_assert_eq(f.kind, rows[i].kind, "row %zu", i);
    }
}

Test(reason, a_part_that_was_killed_for_want_of_memory)
{
    static const char line[] = "llama runner process has terminated: signal: killed";
    struct fault f = {};

    reason_of_words(&f, "tiny cannot be loaded", line);
    reason_of_kills(&f, 0, -1);
    cr_assert_str_eq(f.code, "engine_crashed");
    reason_of_kills(&f, -1, -1);
    cr_assert_str_eq(f.code, "engine_crashed");
    reason_of_kills(&f, 1, 64 << 20);
    cr_assert_str_eq(f.code, "machine_out_of_memory");
    cr_assert_eq(strncmp(f.text, "tiny cannot be loaded: ", 23), 0);
    cr_assert_not_null(strstr(f.text, "signal: killed: the kernel killed it"), "%s", f.text);
    fault_code(&f, FAULT_INVALID, "model_unreadable", "something else");
    reason_of_kills(&f, 1, -1);
    cr_assert_str_eq(f.code, "model_unreadable");
}
