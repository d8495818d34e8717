//! Times of one kind, and what they amount to.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::shell::{self, Doing, Failure, Result};

/// Times of one kind, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, ms: f64) {
        self.0.push(ms);
    }

    /// Returns the median; of an even number the mean of the middle two.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// Returns the value that so many percent are not above (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// Runs a command with its output thrown away and returns how long it took, in milliseconds.
///
/// # Errors
/// [`Failure::Because`] with what it wrote to stderr.
pub(crate) fn time(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.spawn().and_then(std::process::Child::wait_with_output);
    let took = began.elapsed().as_secs_f64() * 1e3;
    check(command, &output.doing(shell::line(command))?)?;
    Ok(took)
}

/// Starts all commands, waits for all, and returns how long that took, in milliseconds.
///
/// # Errors
/// [`Failure::Because`] with what the first that failed wrote to stderr.
pub(crate) fn time_together(commands: &mut [Command]) -> Result<f64> {
    let began = Instant::now();
    let mut children = Vec::new();
    for command in &mut *commands {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        children.push(command.spawn().doing(shell::line(command))?);
    }
    let outputs: Vec<_> = children.into_iter().map(std::process::Child::wait_with_output).collect();
    let took = began.elapsed().as_secs_f64() * 1e3;
    for (command, output) in commands.iter().zip(outputs) {
        check(command, &output.doing(shell::line(command))?)?;
    }
    Ok(took)
}

fn check(command: &Command, output: &std::process::Output) -> Result<()> {
    if crate::interrupt::came() {
        return Err(Failure::Interrupted);
    }
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Because(format!("`{}` failed: {}", shell::line(command), error.trim())))
}

/// Returns the CPU time of one run in milliseconds, from many: the kernel counts in ticks.
///
/// # Errors
/// [`Failure::Because`] where a run fails or the kernel's count cannot be read.
pub(crate) fn cpu_time(runs: u32, mut command: impl FnMut() -> Command) -> Result<f64> {
    // Of all children that were waited for: fields 16 and 17 of proc_pid_stat(5).
    let children = || cpu_ms("/proc/self/stat", 13);
    let before = children()?;
    for _ in 0..runs {
        time(&mut command())?;
    }
    Ok((children()? - before) / f64::from(runs))
}

/// Returns a CPU time of proc_pid_stat(5) in milliseconds, user's and system's: the two fields that come so many after the
/// process's name.
///
/// # Errors
/// [`Failure::Because`] where they cannot be read.
pub(crate) fn cpu_ms(file: &str, after_name: usize) -> Result<f64> {
    let stat = std::fs::read_to_string(file).doing(file)?;
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let ticks: Vec<f64> = rest.split_whitespace().skip(after_name).take(2).flat_map(str::parse).collect();
    let per_second: f64 = shell::read(Command::new("getconf").arg("CLK_TCK"))?.parse().doing("CLK_TCK")?;
    match ticks[..] {
        [user, system] => Ok((user + system) / per_second * 1e3),
        _ => Err(Failure::Because(format!("{file} has no times: {stat}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        let sample: Sample = [3.0, 1.0, 2.0, 10.0].into_iter().collect();
        assert!((sample.median() - 2.5).abs() < 1e-9);
        assert!((sample.percentile(90) - 10.0).abs() < 1e-9);
        assert!((sample.percentile(50) - 2.0).abs() < 1e-9);
        assert!(Sample::default().median().is_nan());
    }

    #[test]
    fn the_cpu_time_of_a_child_is_counted() {
        let spin = || {
            let mut spin = Command::new("sh");
            spin.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
            spin
        };
        assert!(cpu_time(2, spin).unwrap_or_else(|failure| panic!("{failure}")) > 0.0);
    }
}
