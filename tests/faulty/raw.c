/* A plugin that breaks the rules of the boundary, which one written in Rust cannot do by accident. The id of the
 * container that is asked for says which; the tests of the host compile it. */
#define _GNU_SOURCE
#include "gx_plugin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

GX_MANIFEST("name = \"faulty\"\nversion = \"0.1.0\"\nkind = \"runtime\"\napi = [\"runtime/1\"]\n");

#define LARGE (20 * 1024 * 1024)

static const gx_host_api *host;
static int self;

static gx_bytes text(const char *s) { return (gx_bytes){(const uint8_t *)s, strlen(s)}; }

static gx_bytes zeros(size_t len) {
    static uint8_t *all;
    if (!all)
        all = calloc(1, LARGE);
    return (gx_bytes){all, len};
}

static void complete(uint64_t call, int32_t status, const char *body) { host->complete(host->ctx, call, status, text(body)); }

static int is(gx_bytes body, const char *word) { return memmem(body.ptr, body.len, word, strlen(word)) != NULL; }

/* Emits without credit, and says how often it was let. */
static void flood(uint64_t call) {
    int taken = 0;
    for (int i = 0; i < 2000; i++)
        taken += host->emit(host->ctx, call, GX_STDOUT, zeros(GX_MAX_RAW_ITEM)) == GX_OK;
    complete(call, GX_ERR, taken ? "{\"code\":\"Internal\",\"message\":\"some were taken\"}"
                                 : "{\"code\":\"Internal\",\"message\":\"none was taken\"}");
}

static void nonsense(uint64_t call) {
    const uint8_t bad[] = {0xff, 0xfe, 27, '[', '2', 'J', 0};
    host->emit(host->ctx, call, 77, text("x"));
    host->emit(host->ctx, call, GX_STDOUT, zeros(GX_MAX_RAW_ITEM + 1));
    host->emit(host->ctx, call, GX_EVENT, zeros(LARGE));
    host->emit(host->ctx, call, GX_INPUT_TAKEN, text("not four"));
    host->emit(host->ctx, call + 1000, GX_STDOUT, text("for nobody"));
    host->log(host->ctx, 4000000000u, (gx_bytes){bad, sizeof bad}, (gx_bytes){bad, sizeof bad});
    host->log(host->ctx, GX_LOG_DEBUG, text(""), zeros(LARGE));
    host->complete(host->ctx, call, GX_OK, (gx_bytes){bad, sizeof bad});
}

/* In a child: writes what is no frame to the socket, behind the back of whoever speaks there. */
static void frames(void) {
    char junk[64];
    memset(junk, 0xff, sizeof junk);
    for (int fd = 3; fd < 4096; fd++)
        send(fd, junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int32_t call(void *instance, uint64_t call, uint32_t method, uint32_t timeout_ms, gx_bytes body) {
    (void)instance, (void)timeout_ms;
    if (method == GX_CONFIGURE)
        complete(call, GX_OK, "{\"issues\":[]}");
    else if (is(body, "\"hang\""))
        for (;;)
            pause();
    else if (is(body, "\"silent\""))
        return GX_OK;
    else if (is(body, "\"flood\""))
        flood(call);
    else if (is(body, "\"nonsense\""))
        nonsense(call);
    else if (is(body, "\"frames\""))
        frames();
    else if (is(body, "\"status\""))
        complete(call, 99, "");
    else if (is(body, "\"error\""))
        complete(call, GX_ERR, "no JSON\033[2J");
    else if (is(body, "\"large\""))
        host->complete(host->ctx, call, GX_OK, zeros(LARGE));
    else {
        complete(call + 1, GX_OK, "for another");
        complete(0, GX_OK, "");
        complete(UINT64_MAX, GX_OK, "");
        complete(call, GX_OK, "{\"id\":\"first\",\"name\":\"first\",\"image\":\"x\"}");
        complete(call, GX_OK, "{\"id\":\"second\",\"name\":\"second\",\"image\":\"x\"}");
    }
    return GX_OK;
}

static void cancel(void *instance, uint64_t call) { (void)instance, (void)call; }
static void credit(void *instance, uint64_t call, uint32_t bytes) { (void)instance, (void)call, (void)bytes; }

static int32_t input(void *instance, uint64_t call, uint32_t kind, gx_bytes chunk) {
    (void)instance, (void)call, (void)kind, (void)chunk;
    return 77;
}

static int32_t shut_down(void *instance, uint32_t grace_ms) {
    (void)instance, (void)grace_ms;
    return GX_OK;
}

static int32_t create(const gx_host_api *api, gx_bytes hello, void **instance) {
    host = api;
    *instance = is(hello, "\"no-instance\"") ? NULL : &self;
    return GX_OK;
}

const gx_plugin_api *gx_plugin_entry_v1(uint16_t host_major, uint16_t host_minor) {
    static const gx_plugin_api api = {sizeof api, GX_ABI_MAJOR, GX_ABI_MINOR, 0,     create,
                                      call,       cancel,       credit,       input, shut_down};
    (void)host_major, (void)host_minor;
    return &api;
}
