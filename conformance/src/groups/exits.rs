//! How a main process ended.

use std::sync::Arc;

use gx_core::ErrorCode;
use gx_core::runtime::Feature;

use super::lifecycle::missing;
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{graceful, hungry, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("exits/0", "the exit code is the main process's", [], zero),
    case!("exits/1", "the exit code is the main process's", [], one),
    case!("exits/43", "the exit code is the main process's", [], forty_three),
    case!("exits/137", "128 + 9 stands for a process killed by SIGKILL", [], kill_code),
    case!("exits/inspect", "inspect tells the exit that wait tells, with its time", [], inspected),
    case!("exits/signal", "a signal ends it, and the exit says which", [Signal], killed),
    case!("exits/signal by number", "a signal is given by name or number", [Signal], by_number),
    case!("exits/signal to nobody", "NotFound, FailedPrecondition when it does not run", [Signal], nobody),
    case!("exits/unknown signal", "InvalidArgument", [Signal], unknown),
    case!("exits/out of memory", "a process beyond its memory is killed", [Limits, Processes], out_of_memory),
];

async fn code(t: &Trial, code: i32, signal: Option<i32>) -> Verdict {
    let (_, exit) = t.ended(t.spec(sh(format!("exit {code}")))).await?;
    same("code and signal", (exit.code, exit.signal), (code, signal))?;
    same("oom_killed", exit.oom_killed, false)
}

async fn zero(t: Arc<Trial>) -> Verdict {
    code(&t, 0, None).await
}

async fn one(t: Arc<Trial>) -> Verdict {
    code(&t, 1, None).await
}

async fn forty_three(t: Arc<Trial>) -> Verdict {
    code(&t, 43, None).await
}

async fn kill_code(t: Arc<Trial>) -> Verdict {
    code(&t, 137, Some(9)).await
}

async fn inspected(t: Arc<Trial>) -> Verdict {
    let (id, waited) = t.ended(t.spec(sh("sleep 0.1; exit 3"))).await?;
    let container = t.inspect(&id).await?;
    let Some(exit) = container.exit else { return Err(Failure::new("inspect has no exit")) };
    same("the exit code", (exit.code, waited.code), (3, 3))?;
    check!(exit.finished_at.is_some(), "finished_at is missing");
    check!(exit.finished_at >= container.started_at, "it ended before it was started");
    Ok(())
}

async fn killed(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    soon("signal", SOON, t.runtime.signal(id.clone(), "SIGKILL".into())).await?.of("signal")?;
    let exit = t.wait(&id).await?;
    same("code and signal", (exit.code, exit.signal), (137, Some(9)))
}

async fn by_number(t: Arc<Trial>) -> Verdict {
    for name in ["10", "SIGUSR1"] {
        let id = t.running(graceful("USR1", 12)).await?;
        t.until_said(&id, "ready").await?;
        soon("signal", SOON, t.runtime.signal(id.clone(), name.into())).await?.of("signal")?;
        same(&format!("the exit code after {name}"), t.wait(&id).await?.code, 12)?;
    }
    Ok(())
}

async fn nobody(t: Arc<Trial>) -> Verdict {
    let signal = |id| soon("signal", SOON, t.runtime.signal(id, "SIGTERM".into()));
    refused("signal to a missing one", signal(missing()).await?, ErrorCode::NotFound, None)?;
    let created = t.create(t.spec(stubborn())).await?;
    refused("signal to a created one", signal(created).await?, ErrorCode::FailedPrecondition, None)?;
    let (ended, _) = t.ended(t.spec(sh("true"))).await?;
    refused("signal to an ended one", signal(ended).await?, ErrorCode::FailedPrecondition, None)
}

async fn unknown(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    for name in ["SIGNOSUCH", "", "0", "-1", "999"] {
        let sent = soon("signal", SOON, t.runtime.signal(id.clone(), name.into())).await?;
        refused(&format!("signal {name:?}"), sent, ErrorCode::InvalidArgument, None)?;
    }
    Ok(())
}

async fn out_of_memory(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(hungry());
    spec.resources.memory_bytes = Some(32 << 20);
    let (_, exit) = t.ended(spec).await?;
    same("code and signal", (exit.code, exit.signal), (137, Some(9)))?;
    check!(exit.oom_killed || !t.capabilities.has(Feature::OomReport), "oom_killed is not set");
    Ok(())
}
