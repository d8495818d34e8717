"""What schemathesis has to be told of our API beside its document: see tests/it/schemathesis.rs."""

import os

import schemathesis


@schemathesis.serializer("application/x-tar")
def archive(ctx, value):
    """Whatever is made up goes as it is: an archive is any bytes until it is read."""
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.deserializer("application/vnd.gx.stream")
@schemathesis.deserializer("application/octet-stream")
def frames(ctx, response):
    """Frames, and bytes of speed tests, are checked by tests of their own."""
    return response.content


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Leaves out what has no end: a followed log, statistics again and again, a stop with a long grace, a gigabyte."""
    path = case.operation.path
    if path.endswith("/logs") and isinstance(case.query, dict):
        case.query.pop("follow", None)
    if path.endswith("/stats") and isinstance(case.query, dict) and "every_ms" in case.query:
        case.query["every_ms"] = "0" if str(case.query["every_ms"]).isdigit() else case.query["every_ms"]
    if path.endswith("/stop") and isinstance(case.body, dict) and isinstance(case.body.get("grace_ms"), int):
        case.body["grace_ms"] = min(case.body["grace_ms"], 100)
    # Random bytes are slow to look at: it guesses what they are encoded in.
    for place, name, most in (("/speedtest/down", "bytes", 1000), ("/garbage", "ckSize", 0)):
        if path == place:
            case.query = case.query if isinstance(case.query, dict) else {}
            asked = str(case.query.get(name, most))
            case.query[name] = str(min(int(asked), most)) if asked.isdigit() else asked


@schemathesis.hook
def after_call(ctx, case, response):
    """Writes down what was answered, for the test to see that nothing was left out."""
    with open(os.environ["GX_TRIED"], "a", encoding="utf-8") as tried:
        tried.write(f"{case.operation.method.upper()} {case.operation.path}\n")
