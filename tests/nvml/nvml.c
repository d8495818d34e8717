/* A stand-in for NVIDIA's libnvidia-ml.so.1: imaginary GPUs, and faults on request.
 *
 * The file that the environment names in GX_TEST_NVML is read anew at each call, so that a test can change what there
 * is under a running program. Its lines:
 *
 *     gpu UUID              a GPU; its index is its place
 *     fail CALL WHICH CODE  CALL fails with this number for the GPU with this uuid, or for `any`
 *     hang CALL             CALL never returns
 *
 * CALL is init, driver, count, handle, uuid, name, memory, utilization, temperature, clock, clock_max, compute or
 * graphics. Each init and shutdown is noted in the file with `.log` behind its name. Numbers and structures are those
 * of NVIDIA's nvml.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };

static FILE *script(void) {
    const char *path = getenv("GX_TEST_NVML");
    return path ? fopen(path, "r") : NULL;
}

/* Copies the uuid of a GPU, and returns how many there are. */
static unsigned gpus(unsigned wanted, char uuid[80]) {
    char line[256];
    unsigned count = 0;
    FILE *file = script();
    uuid[0] = 0;
    while (file && fgets(line, sizeof line, file)) {
        char found[80];
        if (sscanf(line, "gpu %79s", found) == 1 && count++ == wanted) strcpy(uuid, found);
    }
    if (file) fclose(file);
    return count;
}

/* Returns the code with which a call fails now for a GPU. */
static int fault(const char *call, const char *uuid) {
    char line[256], name[80], which[80];
    int code, found = SUCCESS;
    FILE *file = script();
    if (!file) return UNKNOWN;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "hang %79s", name) == 1 && strcmp(name, call) == 0) pause();
        int fits = sscanf(line, "fail %79s %79s %d", name, which, &code) == 3 && strcmp(name, call) == 0;
        if (fits && (strcmp(which, "any") == 0 || strcmp(which, uuid) == 0)) found = code;
    }
    fclose(file);
    return found;
}

/* A handle is the index and one. */
static int device(const char *call, uintptr_t handle, char uuid[80]) {
    if (handle == 0 || handle > gpus(handle - 1, uuid)) return INVALID_ARGUMENT;
    return fault(call, uuid);
}

static void note(const char *what) {
    char path[4096];
    const char *script = getenv("GX_TEST_NVML");
    FILE *log;
    snprintf(path, sizeof path, "%s.log", script ? script : "/dev/null");
    if ((log = fopen(path, "a"))) {
        fprintf(log, "%s\n", what);
        fclose(log);
    }
}

static int text(int code, const char *value, char *to, unsigned length) {
    if (code == SUCCESS) snprintf(to, length, "%s", value);
    return code;
}

static int number(const char *call, uintptr_t handle, unsigned value, unsigned *to) {
    char uuid[80];
    int code = device(call, handle, uuid);
    if (code == SUCCESS) *to = value;
    return code;
}

int nvmlInit_v2(void) {
    note("init");
    return fault("init", "any");
}

int nvmlShutdown(void) {
    note("shutdown");
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *to, unsigned length) {
    return text(fault("driver", "any"), "550.54.14", to, length);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char uuid[80];
    *count = gpus(0, uuid);
    return fault("count", "any");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, uintptr_t *handle) {
    char uuid[80];
    *handle = (uintptr_t)index + 1;
    return device("handle", *handle, uuid);
}

int nvmlDeviceGetUUID(uintptr_t handle, char *to, unsigned length) {
    char uuid[80];
    int code = device("uuid", handle, uuid);
    return text(code, uuid, to, length);
}

int nvmlDeviceGetName(uintptr_t handle, char *to, unsigned length) {
    char uuid[80];
    return text(device("name", handle, uuid), "Imaginary 4090", to, length);
}

int nvmlDeviceGetMemoryInfo_v2(uintptr_t handle, struct memory_v2 *memory) {
    char uuid[80];
    memory->total = 24ull << 30;
    memory->used = 1ull << 30;
    memory->free = 23ull << 30;
    memory->reserved = 0;
    return device("memory", handle, uuid);
}

int nvmlDeviceGetUtilizationRates(uintptr_t handle, struct utilization *rates) {
    char uuid[80];
    rates->gpu = 37;
    rates->memory = 5;
    return device("utilization", handle, uuid);
}

int nvmlDeviceGetTemperature(uintptr_t handle, int sensor, unsigned *celsius) {
    (void)sensor;
    return number("temperature", handle, 61, celsius);
}

int nvmlDeviceGetClockInfo(uintptr_t handle, int clock, unsigned *mhz) {
    return number("clock", handle, clock == 0 ? 2100 : 9501, mhz);
}

int nvmlDeviceGetMaxClockInfo(uintptr_t handle, int clock, unsigned *mhz) {
    return number("clock_max", handle, clock == 0 ? 2520 : 10501, mhz);
}

/* As the real one: whoever has no room is told how much is needed. */
static int processes(const char *call, uintptr_t handle, unsigned there, unsigned *count) {
    int code = number(call, handle, there, count);
    return code == SUCCESS && there > 0 ? INSUFFICIENT_SIZE : code;
}

int nvmlDeviceGetComputeRunningProcesses_v3(uintptr_t handle, unsigned *count, void *infos) {
    (void)infos;
    return processes("compute", handle, 2, count);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(uintptr_t handle, unsigned *count, void *infos) {
    (void)infos;
    return processes("graphics", handle, 1, count);
}
