/* A minimal runtime in C: containers are rows of a table and run nothing. It shows what the boundary asks for: replies
 * from within a call, calls that end later (wait), streams within their credit (list, logs), cancellation, shutdown. */
#define _GNU_SOURCE
#include "gx_plugin.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

GX_MANIFEST("name = \"example-c\"\n"
            "version = \"0.1.0\"\n"
            "kind = \"runtime\"\n"
            "api = [\"runtime/1\"]\n"
            "description = \"A minimal runtime in C\"\n"
            "license = \"MIT OR Apache-2.0\"\n"
            "[config.greeting]\n"
            "type = \"string\"\n"
            "default = \"hello from C\"\n"
            "max = 60\n"
            "doc = \"what every container has written\"\n");

#define MOST_CONTAINERS 64
#define MOST_WAITING 256

typedef struct {
    char *name, *image, *labels; /* JSON as it came; name is NULL where the row is free */
    const char *state;
} container;

/* A call that has not ended: one that waits for a container, or a stream that waits for credit. */
typedef struct {
    uint64_t call; /* 0 where the row is free */
    uint32_t method;
    int row;       /* which container; for a list, the next one to tell */
    int64_t credit;
    char *filter;
} waiting;

static struct {
    pthread_mutex_t lock;
    const gx_host_api *host;
    char greeting[128];
    container containers[MOST_CONTAINERS];
    waiting waiting[MOST_WAITING];
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- JSON, as far as it is needed: finding a member of an object. gx sends it without spaces. ---- */

static gx_bytes text(const char *s) { return (gx_bytes){(const uint8_t *)s, strlen(s)}; }

static bool equal(gx_bytes a, gx_bytes b) { return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); }

/* Returns where the value that begins at `at` ends. */
static size_t skip(gx_bytes json, size_t at) {
    int depth = 0;
    for (bool quoted = false; at < json.len; at++) {
        uint8_t c = json.ptr[at];
        if (quoted) {
            if (c == '\\')
                at++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        } else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']')) {
            break;
        }
    }
    return at < json.len ? at : json.len;
}

/* Steps through an object or, with key == NULL, an array. `at` begins with 1. */
static bool next(gx_bytes json, size_t *at, gx_bytes *key, gx_bytes *value) {
    if (*at >= json.len || json.ptr[*at] == '}' || json.ptr[*at] == ']')
        return false;
    if (key) {
        size_t colon = skip(json, *at);
        *key = (gx_bytes){json.ptr + *at, colon - *at};
        *at = colon + 1;
    }
    if (*at >= json.len)
        return false;
    size_t end = skip(json, *at);
    *value = (gx_bytes){json.ptr + *at, end - *at};
    *at = end + (end < json.len && json.ptr[end] == ',');
    return true;
}

/* Returns a member of an object as it is written, or nothing. `name` has its quotes. */
static gx_bytes member(gx_bytes object, gx_bytes name) {
    gx_bytes key, value;
    for (size_t at = 1; next(object, &at, &key, &value);)
        if (equal(key, name))
            return value;
    return (gx_bytes){NULL, 0};
}

static gx_bytes get(gx_bytes object, const char *name) { return member(object, text(name)); }

static char *keep(gx_bytes bytes, const char *otherwise) {
    return bytes.len ? strndup((const char *)bytes.ptr, bytes.len) : strdup(otherwise);
}

/* ---- answers ---- */

static void complete(uint64_t call, int32_t status, const char *body) {
    plugin.host->complete(plugin.host->ctx, call, status, text(body));
}

static void fail(uint64_t call, const char *code, const char *message) {
    char body[256];
    snprintf(body, sizeof body, "{\"code\":\"%s\",\"message\":\"%s\"}", code, message);
    complete(call, GX_ERR, body);
}

static char *describe(const container *c) {
    char *json = NULL;
    /* The name is a JSON string and serves as the id too. */
    if (asprintf(&json, "{\"id\":%s,\"name\":%s,\"image\":%s,\"state\":\"%s\",\"labels\":%s}", c->name, c->name, c->image,
                 c->state, c->labels) < 0)
        return NULL;
    return json;
}

static container *find(gx_bytes body) {
    gx_bytes id = get(body, "\"id\"");
    for (int row = 0; row < MOST_CONTAINERS; row++)
        if (plugin.containers[row].name && equal(text(plugin.containers[row].name), id))
            return &plugin.containers[row];
    return NULL;
}

static bool fits(const container *c, gx_bytes filter) {
    gx_bytes key, wanted, labels = get(filter, "\"labels\""), states = get(filter, "\"states\"");
    for (size_t at = 1; next(labels, &at, &key, &wanted);) {
        gx_bytes have = member(text(c->labels), key);
        if (!have.len || (!equal(wanted, text("null")) && !equal(wanted, have)))
            return false;
    }
    bool any = true;
    for (size_t at = 1; next(states, &at, NULL, &wanted);) {
        if (wanted.len == strlen(c->state) + 2 && !memcmp(wanted.ptr + 1, c->state, strlen(c->state)))
            return true;
        any = false;
    }
    return any;
}

/* ---- calls that end later ---- */

static void end(waiting *w, int32_t status, const char *body) {
    uint64_t call = w->call;
    free(w->filter);
    *w = (waiting){0};
    complete(call, status, body);
}

static waiting *look_up(uint64_t call) {
    for (int row = 0; row < MOST_WAITING; row++)
        if (plugin.waiting[row].call == call)
            return &plugin.waiting[row];
    return NULL;
}

/* Emits if there is credit for it. */
static int32_t emit(waiting *w, uint32_t kind, const char *item) {
    int64_t cost = (int64_t)strlen(item) + 32;
    if (cost > GX_MAX_COST)
        cost = GX_MAX_COST;
    if (w->credit < cost)
        return GX_NO_CREDIT;
    w->credit -= cost;
    return plugin.host->emit(plugin.host->ctx, w->call, kind, text(item));
}

/* Writes what the credit allows of a stream. */
static void go_on(waiting *w) {
    if (w->method == GX_LOGS) {
        if (emit(w, GX_STDOUT, plugin.greeting) != GX_NO_CREDIT)
            end(w, GX_OK, "");
        return;
    }
    for (; w->row < MOST_CONTAINERS; w->row++) {
        const container *c = &plugin.containers[w->row];
        if (!c->name || !fits(c, text(w->filter)))
            continue;
        char *json = describe(c);
        int32_t status = json ? emit(w, GX_EVENT, json) : GX_GONE;
        free(json);
        if (status == GX_NO_CREDIT)
            return;
        if (status != GX_OK)
            break;
    }
    end(w, GX_OK, "");
}

static void exited(const container *c) {
    for (int row = 0; row < MOST_WAITING; row++) {
        waiting *w = &plugin.waiting[row];
        if (w->call && w->method == GX_WAIT && &plugin.containers[w->row] == c)
            end(w, GX_OK, "{\"code\":137,\"signal\":9}");
    }
}

static void stop(container *c) {
    if (!strcmp(c->state, "running")) {
        c->state = "exited";
        exited(c);
    }
}

static void later(uint64_t call, uint32_t method, int row, gx_bytes filter) {
    waiting *w = look_up(0);
    if (!w)
        fail(call, "ResourceExhausted", "too many calls wait");
    else
        *w = (waiting){.call = call, .method = method, .row = row, .filter = keep(filter, "{}")};
}

/* ---- the methods ---- */

static void create_container(uint64_t call, gx_bytes body) {
    gx_bytes spec = get(body, "\"spec\""), name = get(spec, "\"name\"");
    container *free_row = NULL;
    for (int row = 0; row < MOST_CONTAINERS; row++) {
        container *c = &plugin.containers[row];
        if (!c->name) {
            free_row = free_row ? free_row : c;
        } else if (equal(text(c->name), name)) {
            complete(call, GX_ERR, "{\"code\":\"AlreadyExists\",\"message\":\"the name is taken\",\"field\":\"name\"}");
            return;
        }
    }
    if (!free_row) {
        fail(call, "ResourceExhausted", "there is no room for another container");
        return;
    }
    *free_row = (container){keep(name, "\"\""), keep(get(spec, "\"image\""), "\"\""),
                            keep(get(spec, "\"labels\""), "{}"), "created"};
    complete(call, GX_OK, free_row->name);
}

static void remove_container(uint64_t call, container *c, gx_bytes body) {
    bool running = c && !strcmp(c->state, "running");
    if (running && !equal(get(get(body, "\"options\""), "\"force\""), text("true"))) {
        fail(call, "FailedPrecondition", "it runs");
        return;
    }
    if (c) {
        stop(c);
        free(c->name), free(c->image), free(c->labels);
        *c = (container){0};
    }
    complete(call, GX_OK, "");
}

/* Methods about one container, which must be there. */
static void of_container(uint64_t call, uint32_t method, container *c) {
    if (!c) {
        fail(call, "NotFound", "no such container");
    } else if (method == GX_START) {
        c->state = "running";
        complete(call, GX_OK, "");
    } else if (method == GX_INSPECT) {
        char *json = describe(c);
        complete(call, GX_OK, json ? json : "null");
        free(json);
    } else if (method == GX_LOGS || !strcmp(c->state, "running")) {
        later(call, method, (int)(c - plugin.containers), (gx_bytes){NULL, 0});
    } else if (!strcmp(c->state, "exited")) {
        complete(call, GX_OK, "{\"code\":137,\"signal\":9}");
    } else {
        fail(call, "FailedPrecondition", "it was never started");
    }
}

static void configure(uint64_t call, gx_bytes body) {
    gx_bytes greeting = get(body, "\"greeting\"");
    /* Good enough here: a text with escapes is written as it is quoted. */
    snprintf(plugin.greeting, sizeof plugin.greeting, "%.*s\n", (int)(greeting.len > 2 ? greeting.len - 2 : 0),
             greeting.len > 2 ? (const char *)greeting.ptr + 1 : "");
    complete(call, GX_OK, "{\"issues\":[]}");
}

static int32_t call(void *instance, uint64_t call, uint32_t method, uint32_t timeout_ms, gx_bytes body) {
    (void)instance, (void)timeout_ms; /* nothing here takes long; wait has no limit */
    int32_t accepted = GX_OK;
    pthread_mutex_lock(&plugin.lock);
    switch (method) {
    case GX_PING: complete(call, GX_OK, ""); break;
    case GX_CONFIGURE: configure(call, body); break;
    case GX_CAPABILITIES: complete(call, GX_OK, "{\"features\":[]}"); break;
    case GX_INFO: complete(call, GX_OK, "{\"backend\":\"example-c\",\"version\":\"0.1.0\",\"os\":\"linux\"}"); break;
    case GX_HEALTH: complete(call, GX_OK, "{\"status\":\"healthy\"}"); break;
    case GX_IMAGE: complete(call, GX_OK, "null"); break;
    case GX_CREATE: create_container(call, body); break;
    case GX_STOP: {
        container *c = find(body);
        if (c)
            stop(c);
        complete(call, GX_OK, "");
        break;
    }
    case GX_REMOVE: remove_container(call, find(body), body); break;
    case GX_LIST: later(call, method, 0, get(body, "\"filter\"")); break;
    case GX_START:
    case GX_INSPECT:
    case GX_WAIT:
    case GX_LOGS: of_container(call, method, find(body)); break;
    default: accepted = GX_UNSUPPORTED;
    }
    pthread_mutex_unlock(&plugin.lock);
    return accepted;
}

static void cancel(void *instance, uint64_t call) {
    (void)instance;
    pthread_mutex_lock(&plugin.lock);
    waiting *w = call ? look_up(call) : NULL;
    if (w)
        end(w, GX_CANCELLED, "");
    pthread_mutex_unlock(&plugin.lock);
}

static void credit(void *instance, uint64_t call, uint32_t bytes) {
    (void)instance;
    pthread_mutex_lock(&plugin.lock);
    waiting *w = call ? look_up(call) : NULL;
    if (w && w->method != GX_WAIT) {
        w->credit += bytes;
        if (bytes)
            go_on(w);
        else
            end(w, GX_OK, ""); /* nobody reads any more */
    }
    pthread_mutex_unlock(&plugin.lock);
}

static int32_t input(void *instance, uint64_t call, uint32_t kind, gx_bytes chunk) {
    (void)instance, (void)call, (void)kind, (void)chunk;
    return GX_GONE; /* no method here takes input */
}

static int32_t shut_down(void *instance, uint32_t grace_ms) {
    (void)instance, (void)grace_ms;
    pthread_mutex_lock(&plugin.lock);
    for (int row = 0; row < MOST_WAITING; row++)
        if (plugin.waiting[row].call)
            end(&plugin.waiting[row], GX_CANCELLED, "");
    pthread_mutex_unlock(&plugin.lock);
    return GX_OK;
}

static int32_t create(const gx_host_api *host, gx_bytes hello, void **instance) {
    (void)hello;
    if (host->abi_major != GX_ABI_MAJOR || host->size < sizeof *host)
        return GX_MISMATCH;
    if (plugin.host)
        return GX_ERR; /* one instance is enough for an example */
    plugin.host = host;
    *instance = &plugin;
    return GX_OK;
}

const gx_plugin_api *gx_plugin_entry_v1(uint16_t host_major, uint16_t host_minor) {
    static const gx_plugin_api api = {sizeof api, GX_ABI_MAJOR, GX_ABI_MINOR, 0,      create,
                                      call,       cancel,       credit,       input, shut_down};
    (void)host_major, (void)host_minor;
    return &api;
}
