//! Whether a file system bounds folders: what engines that keep containers in folders of XFS need for a limit of what
//! each writes. Pure.

use std::path::{Path, PathBuf};

/// Returns whether a folder is on XFS with project quotas, as a process's own table of mounts tells
/// (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).
pub fn has_project_quota(mounts: &str, folder: &Path) -> bool {
    let fitting = mounts.lines().filter_map(Mount::parse).filter(|mount| folder.starts_with(&mount.point));
    // Of mounts at one place the last is on top.
    let innermost = fitting.max_by_key(|mount| mount.point.components().count());
    innermost.is_some_and(|mount| mount.kind == "xfs" && mount.has_project_quota())
}

/// Returns whether any file system of a process's table of mounts bounds what containers write, whichever way: where none
/// does, nobody has to ask an engine where it keeps them.
pub fn may_bound_disks(mounts: &str) -> bool {
    mounts.lines().filter_map(Mount::parse).any(|mount| match mount.kind {
        "btrfs" | "zfs" => true,
        "xfs" => mount.has_project_quota(),
        _ => false,
    })
}

struct Mount<'a> {
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, _source, options) = (system.next()?, system.next()?, system.next()?);
        let point = place.split(' ').nth(4)?.replace("\\040", " ").into();
        Some(Self { point, kind, options })
    }

    fn has_project_quota(&self) -> bool {
        self.options.split(',').any(|option| matches!(option, "prjquota" | "pquota"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "\
1 0 8:1 / / rw - ext4 /dev/vda rw
2 1 8:2 / /var/lib/docker rw,noatime shared:1 - xfs /dev/vdb rw,attr2,prjquota
3 1 8:3 / /srv/my\\040data rw - xfs /dev/vdc rw,noquota
4 1 8:4 / /big rw - xfs /dev/vdd rw,pquota
5 1 8:5 / /big rw - xfs /dev/vde rw,noquota
nonsense";
        let has = |folder: &str| has_project_quota(mounts, Path::new(folder));
        assert!(has("/var/lib/docker") && has("/var/lib/docker/overlay2"));
        assert!(!has("/var/lib/docker2") && !has("/srv/my data/docker") && !has("/"));
        assert!(!has("/big/docker"), "what is on top counts");
    }

    #[test]
    fn file_systems_that_bound_disks_are_seen_wherever_they_are() {
        let may = |kind: &str, options: &str| {
            may_bound_disks(&format!("1 0 8:1 / /a rw - {kind} /dev/vda {options}\nx"))
        };
        assert!(may("btrfs", "rw") && may("zfs", "rw") && may("xfs", "rw,prjquota"));
        assert!(!may("ext4", "rw,prjquota") && !may("xfs", "rw,noquota") && !may_bound_disks(""));
    }
}
