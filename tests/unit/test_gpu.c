/* The words of nvidia-smi and npu-smi. */
#include "engine/gpu.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/mem.h"

#define MIB (1024ll * 1024)

static void read_text(const char *text, struct gpu_facts *ret)
{
    gpu_read(text, strlen(text), ret);
}

Test(gpu, one_card)
{
    struct gpu_facts f;

    read_text("chip=nvidia\nNVIDIA GeForce RTX 4090, 550.54.14, 24564, 18, 8.9\n", &f);
    cr_assert_eq(f.kind, GPU_NVIDIA);
    cr_assert_eq(f.n, 1);
    cr_assert_str_eq(f.cards[0].name, "NVIDIA GeForce RTX 4090");
    cr_assert_str_eq(f.driver, "550.54.14");
    cr_assert_eq(f.capability, 89);
    cr_assert_eq(gpu_total_bytes(&f), 24564 * MIB);
    cr_assert_eq(gpu_used_bytes(&f), 18 * MIB);
    cr_assert_null(f.trouble);
}

Test(gpu, several_cards_are_added_up_and_the_weakest_counts)
{
    struct gpu_facts f;

    read_text("a banner of the shell\nchip=nvidia\r\nNVIDIA A10, 570.1, 23028, 100, 8.6\r\nTesla "
              "V100-SXM2-32GB, 570.1, 32768, 3, 7.0\r\n",
              &f);
    cr_assert_eq(f.n, 2);
    cr_assert_eq(f.capability, 70);
    cr_assert_eq(gpu_used_bytes(&f), 103 * MIB);
    cr_assert_str_eq(f.cards[1].name, "Tesla V100-SXM2-32GB");
}

Test(gpu, what_a_card_does_not_know)
{
    struct gpu_facts f;

    read_text("chip=nvidia\nGRID T4-8Q, 470.63.01, 8192, [N/A], [Not Supported]\n", &f);
    cr_assert_eq(f.n, 1);
    cr_assert_eq(f.capability, -1);
    cr_assert_eq(gpu_used_bytes(&f), -1);
    cr_assert_eq(gpu_total_bytes(&f), 8192 * MIB);
    read_text("chip=nvidia\nNVIDIA A100-SXM4-80GB, 535.54.03, [Insufficient Permissions], [Insufficient Permissions], 8.0\n"
              "NVIDIA A100-SXM4-80GB, 535.54.03, 81920, 3, 8.0\n",
              &f);
    cr_assert_null(f.trouble, "a slice of a card may not ask for the whole of it");
    cr_assert_eq(f.n, 2);
    cr_assert_eq(f.capability, 80);
    cr_assert_eq(gpu_used_bytes(&f), -1, "one that is unknown makes all of it unknown");
    cr_assert_eq(gpu_judge(5000 * MIB, gpu_used_bytes(&f), gpu_used_bytes(&f)), GPU_UNMEASURED);
    /* an older driver, asked for fewer fields */
    read_text("chip=nvidia\nTesla P100-PCIE-16GB, 418.87.01, 16280, 0\n", &f);
    cr_assert_eq(f.n, 1);
    cr_assert_eq(f.capability, -1);
}

Test(gpu, troubles_are_explained)
{
    static const struct {
        const char *says, *means;
    } rows[] = {
        {"Failed to initialize NVML: Unknown Error", "restart of the machine"},
        {"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the "
         "latest NVIDIA driver is "
         "installed and running.",
         "does not answer"},
        {"Failed to initialize NVML: Driver/library version mismatch", "driver of its host was updated"},
        {"Failed to initialize NVML: Insufficient Permissions", "without a card"},
        {"sh: 1: nvidia-smi: Permission denied", "without a card"},
        {"No devices were found", "without a card"},
        {"", "names no card"},
        {"Segmentation fault", "names no card"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        char text[300];
        struct gpu_facts f;

        snprintf(text, sizeof(text), "chip=nvidia\n%s\n", rows[i].says);
        read_text(text, &f);
        cr_assert_eq(f.n, 0, "%s", rows[i].says);
        cr_assert_not_null(f.trouble, "%s", rows[i].says);
        cr_assert_not_null(strstr(f.trouble, rows[i].means), "%s: %s", rows[i].says, f.trouble);
    }
}

Test(gpu, ascend)
{
    static const char table[] =
        "chip=ascend\n"
        "+------------------------------------------------------------------------------------------------+\n"
        "| npu-smi 23.0.rc3                 Version: 23.0.rc3                                             |\n"
        "+---------------------------+---------------+----------------------------------------------------+\n"
        "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|\n"
        "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |\n"
        "+===========================+===============+====================================================+\n"
        "| 0     910B2               | OK            | 90.5        38                0    / 0             |\n"
        "| 0                         | 0000:C1:00.0  | 0           0    / 0          3162 / 65536         |\n"
        "+===========================+===============+====================================================+\n"
        "| 1     910B2               | OK            | 91.0        37                0    / 0             |\n"
        "| 0                         | 0000:C2:00.0  | 0           0    / 0          3150 / 65536         |\n"
        "+===========================+===============+====================================================+"
        "\n";
    struct gpu_facts f;

    read_text(table, &f);
    cr_assert_eq(f.kind, GPU_ASCEND);
    cr_assert_eq(f.n, 2);
    cr_assert_str_eq(f.cards[0].name, "910B2");
    cr_assert_eq(gpu_total_bytes(&f), 2 * 65536 * MIB);
    cr_assert_eq(gpu_used_bytes(&f), (3162 + 3150) * MIB);
}

Test(gpu, none_and_nonsense)
{
    struct gpu_facts f;

    read_text("chip=none\n", &f);
    cr_assert_eq(f.kind, GPU_NONE);
    cr_assert_null(f.trouble);
    read_text("", &f);
    cr_assert_eq(f.kind, GPU_UNKNOWN);
    read_text("NVIDIA A10, 570.1, 23028, 100, 8.6\n", &f);
    cr_assert_eq(f.kind, GPU_UNKNOWN);
    cr_assert_eq(f.n, 0);
    cr_assert_eq(gpu_used_bytes(&f), -1);
}

Test(gpu, more_cards_than_there_is_room_for)
{
    char text[4096] = "chip=nvidia\n";
    struct gpu_facts f;

    for (unsigned i = 0; i < 40; i++)
        strcat(text, "A, 1, 1, 1, 8.0\n");
    read_text(text, &f);
    cr_assert_eq(f.n, GPU_CARDS_MAX);
}

Test(gpu, verdict)
{
    static const struct {
        int64_t model, before, after;
        enum gpu_verdict verdict;
    } rows[] = {
        {5000, 100, 5200, GPU_WHOLE},    {5000, 100, 4100, GPU_WHOLE},   {5000, 100, 4090, GPU_PART},
        {5000, 100, 300, GPU_PART},      {5000, 100, 299, GPU_NOT_USED}, {5000, 100, 100, GPU_NOT_USED},
        {5000, 100, 50, GPU_NOT_USED},   {100, 0, 80, GPU_WHOLE},        {100, 0, 10, GPU_NOT_USED},
        {-1, 100, 5200, GPU_UNMEASURED}, {0, 100, 5200, GPU_UNMEASURED},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        cr_assert_eq(gpu_judge(rows[i].model * MIB, rows[i].before * MIB, rows[i].after * MIB),
                     rows[i].verdict, "row %zu", i);
    cr_assert_eq(gpu_judge(5000 * MIB, -1, 5000 * MIB), GPU_UNMEASURED);
    cr_assert_eq(gpu_judge(5000 * MIB, 5000 * MIB, -1), GPU_UNMEASURED);
}

/* ---- how much is free ---- */

Test(gpu, free_memory_is_the_cards_or_where_there_is_none_the_machines)
{
    static const struct {
        const char *text;
        int64_t free_kib;
    } rows[] = {
        {"chip=nvidia\nNVIDIA A10, 570.1, 23028, 100, 8.6\nmemory=1000 kB\n", 22928 * 1024},
        {"chip=nvidia\nNVIDIA A10, 570.1, 100, 200, 8.6\n", 0},
        {"chip=nvidia\nNVIDIA A10, 570.1, 100, [N/A], 8.6\nmemory=1000 kB\n", -1},
        {"chip=nvidia\nNo devices were found\nmemory=1000 kB\n", -1},
        {"chip=none\nmemory=1000 kB   \n", 1000},
        {"chip=none\nmemory=1000 kB max 5 5\n", 1000},
        {"chip=none\nmemory=1000 kB 9223372036854771712 5 5\n", 1000},
        {"chip=none\nmemory=100000 kB 2048000 1024000 512000\n", 1500},
        {"chip=none\nmemory=100000 kB 2048000 1024000\n", 1000},
        {"chip=none\nmemory=100000 kB 1024 2048000 0\n", 0},
        {"chip=none\nmemory=-5 kB\n", -1},
        {"chip=none\nmemory=\n", -1},
        {"chip=none\nmemory=99999999999999999999 kB\n", -1},
        {"chip=none\n", -1},
        {"", -1},
    };
    struct gpu_facts f;

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        int64_t expected = rows[i].free_kib < 0 ? -1 : rows[i].free_kib * 1024;

        read_text(rows[i].text, &f);
        cr_assert_eq(gpu_free_bytes(&f), expected, "row %u: %lld", i, (long long)gpu_free_bytes(&f));
    }
}

/* The real question, asked of this machine. */
Test(gpu, this_machine_says_how_much_memory_is_free)
{
    char text[4096] = "";
    FILE *p;
    struct gpu_facts f;

    cr_assert_eq(setenv("GPU_SCRIPT", gpu_script, 1), 0);
    p = popen("eval \"$GPU_SCRIPT\"", "r");
    cr_assert_not_null(p);
    text[fread(text, 1, sizeof text - 1, p)] = '\0';
    pclose(p);
    read_text(text, &f);
    cr_assert_gt(f.host_free_bytes, 0, "%s", text);
}
