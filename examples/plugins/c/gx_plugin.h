/* The boundary between gx and a plugin, ABI 1.0. What it says in Rust, with the rules in full: core/src/plugin/abi.rs.
 *
 *  1. gx_plugin_entry_v1 returns the table. gx refuses another major. Tables only grow at the end; size tells how far.
 *  2. create is cheap and does no I/O. Then GX_CONFIGURE is called, once, before any other method but GX_PING.
 *  3. call returns at once. A call that it accepts (GX_OK) is completed exactly once, by any thread, before or after
 *     call returns. A call that it refuses is not completed.
 *  4. There is no credit at the start. An item costs its length + 32, at most GX_MAX_COST. Credit of 0 bytes says that
 *     nobody reads any more: emit nothing more and complete soon.
 *  5. Input is sent up to GX_WINDOW bytes ahead; emit GX_INPUT_TAKEN with a 32-bit little-endian count to get more.
 *  6. cancel may come at any time; a running call completes with GX_CANCELLED, another one is ignored.
 *  7. After shutdown returns, neither side calls the other.
 *
 * Bytes are lent for the time of a call, both ways: whoever needs them longer copies them. Functions may be called from
 * any thread. Bodies are JSON; a reply to a method without an answer is empty. */
#ifndef GX_PLUGIN_H
#define GX_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define GX_ABI_MAJOR 1
#define GX_ABI_MINOR 0
#define GX_MAGIC "GXPLUGIN"

#define GX_WINDOW (512 * 1024)
#define GX_MAX_COST (256 * 1024)
#define GX_MAX_RAW_ITEM (64 * 1024)
#define GX_MAX_BODY (16 * 1024 * 1024)

enum gx_status {
    GX_OK = 0,
    GX_ERR = 1, /* the body is {"code": "NotFound", "message": "no container x"}; see RuntimeError */
    GX_CANCELLED = 2,
    GX_PANICKED = 3,
    GX_UNSUPPORTED = 4,
    GX_NO_CREDIT = 5,
    GX_GONE = 6,
    GX_MISMATCH = 7
};

enum gx_emit { GX_STDOUT = 1, GX_STDERR = 2, GX_EVENT = 3, GX_PROGRESS = 4, GX_INPUT_TAKEN = 5 };
enum gx_input { GX_DATA = 1, GX_RESIZE = 2, GX_END = 3 };
enum gx_level { GX_LOG_ERROR = 1, GX_LOG_WARN = 2, GX_LOG_INFO = 3, GX_LOG_DEBUG = 4 };

/* The methods; the bodies are in core/src/plugin/method.rs. */
enum gx_method {
    GX_PING = 0,
    GX_CONFIGURE = 1, /* answers {"issues": [{"path": "key", "message": "what is wrong"}]} */
    GX_CAPABILITIES = 16,
    GX_INFO = 17,
    GX_HEALTH = 18,
    GX_PULL = 19,
    GX_IMAGES = 20,
    GX_IMAGE = 21,
    GX_BUILD = 22,
    GX_REMOVE_IMAGE = 23,
    GX_CREATE = 24,
    GX_START = 25,
    GX_WAIT = 26,
    GX_STOP = 27,
    GX_SIGNAL = 28,
    GX_REMOVE = 29,
    GX_INSPECT = 30,
    GX_LIST = 31,
    GX_LOGS = 32,
    GX_EXEC = 33,
    GX_COPY_IN = 34,
    GX_COPY_OUT = 35,
    GX_STATS = 36,
    GX_EVENTS = 37,
    GX_REMOVE_NETWORK = 38,
    GX_FEED = 39,
    GX_PRUNE_VOLUMES = 40
};

typedef struct {
    const uint8_t *ptr;
    size_t len;
} gx_bytes;

typedef struct {
    uint32_t size;
    uint16_t abi_major, abi_minor;
    uint64_t features; /* 1: one thread calls, and waits for what a call does before it returns */
    void *ctx;
    void (*complete)(void *ctx, uint64_t call, int32_t status, gx_bytes body);
    int32_t (*emit)(void *ctx, uint64_t call, uint32_t kind, gx_bytes item);
    void (*log)(void *ctx, uint32_t level, gx_bytes target, gx_bytes message);
} gx_host_api;

typedef struct {
    uint32_t size;
    uint16_t abi_major, abi_minor;
    uint64_t features;
    int32_t (*create)(const gx_host_api *host, gx_bytes hello, void **instance);
    int32_t (*call)(void *instance, uint64_t call, uint32_t method, uint32_t timeout_ms, gx_bytes body);
    void (*cancel)(void *instance, uint64_t call);
    void (*credit)(void *instance, uint64_t call, uint32_t bytes);
    int32_t (*input)(void *instance, uint64_t call, uint32_t kind, gx_bytes chunk);
    int32_t (*shutdown)(void *instance, uint32_t grace_ms);
} gx_plugin_api;

#define GX_EXPORT __attribute__((visibility("default")))

/* Embeds the manifest, a string literal, where gx reads it without loading the library. */
#define GX_MANIFEST(TEXT)                                                                  \
    GX_EXPORT __attribute__((section(".gx_plugin"), used)) const struct {                  \
        char magic[8];                                                                     \
        uint16_t abi_major, abi_minor;                                                     \
        uint32_t len;                                                                      \
        char text[sizeof(TEXT)];                                                           \
    } gx_plugin_manifest_v1 = {                                                            \
        {'G', 'X', 'P', 'L', 'U', 'G', 'I', 'N'}, GX_ABI_MAJOR, GX_ABI_MINOR, sizeof(TEXT) - 1, TEXT}

GX_EXPORT const gx_plugin_api *gx_plugin_entry_v1(uint16_t host_major, uint16_t host_minor);

#endif
