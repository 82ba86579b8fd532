//! What the machine, or the container, lets this process use: CPUs and memory.

use std::fs;
use std::path::{Path, PathBuf};

use super::sys;

/// CPUs and memory of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs it may run on.
    pub cpus: Vec<usize>,
    /// How many CPUs' time it may use, rounded up; `None`: no quota.
    pub quota: Option<usize>,
    /// Bytes of memory it may use.
    pub memory: u64,
}

/// Where one of the two kinds of control groups keeps what.
struct Groups {
    /// The controller in /proc/self/cgroup; empty for version 2.
    controller: &'static str,
    mount: &'static str,
}

const VERSION_2: Groups = Groups { controller: "", mount: "/sys/fs/cgroup" };
const VERSION_1_CPU: Groups = Groups { controller: "cpu", mount: "/sys/fs/cgroup/cpu" };
const VERSION_1_MEMORY: Groups = Groups { controller: "memory", mount: "/sys/fs/cgroup/memory" };

impl Machine {
    /// Looks. What cannot be read does not limit.
    ///
    /// # Errors
    ///
    /// The system's, when it does not tell the CPUs.
    pub fn look() -> std::io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let read = |path: &Path| fs::read_to_string(path).ok();
        Ok(Self {
            cpus: sys::allowed_cpus()?,
            quota: quota(&groups, &read),
            memory: memory(&groups, &read),
        })
    }

    /// How many shards there are unless somebody says otherwise.
    #[must_use]
    pub fn shards(&self, cpus: usize) -> u16 {
        let shards = self.quota.map_or(cpus, |quota| quota.min(cpus)).max(1);
        u16::try_from(shards).unwrap_or(u16::MAX)
    }
}

type ReadText<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The process's folder of that kind and all above it: the tightest limit of them counts. In a
/// container the path of the host may not exist; then the mount point itself is the group.
fn folders(groups: &str, kind: &Groups) -> Vec<PathBuf> {
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == kind.controller).then_some(path)
    });
    let own = Path::new(own.unwrap_or("/"));
    let below = own.strip_prefix("/").unwrap_or(own);
    below.ancestors().map(|part| Path::new(kind.mount).join(part)).collect()
}

fn quota(groups: &str, read: ReadText<'_>) -> Option<usize> {
    let version_2 = folders(groups, &VERSION_2).into_iter().filter_map(|folder| {
        let text = read(&folder.join("cpu.max"))?;
        let (quota, period) = text.trim().split_once(' ')?;
        cpus(quota, period)
    });
    let version_1 = folders(groups, &VERSION_1_CPU).into_iter().filter_map(|folder| {
        let quota = read(&folder.join("cpu.cfs_quota_us"))?;
        cpus(quota.trim(), read(&folder.join("cpu.cfs_period_us"))?.trim())
    });
    version_2.chain(version_1).min()
}

/// `max` and -1 are no numbers of this kind: no quota.
fn cpus(quota: &str, period: &str) -> Option<usize> {
    let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

fn memory(groups: &str, read: ReadText<'_>) -> u64 {
    let limits = [(&VERSION_2, "memory.max"), (&VERSION_1_MEMORY, "memory.limit_in_bytes")];
    let limits = limits.into_iter().flat_map(|(kind, file)| {
        folders(groups, kind)
            .into_iter()
            .filter_map(move |folder| read(&folder.join(file))?.trim().parse::<u64>().ok())
    });
    limits.chain(installed(read)).min().unwrap_or(u64::MAX)
}

fn installed(read: ReadText<'_>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'a>(files: &'a [(&str, &str)]) -> impl Fn(&Path) -> Option<String> + 'a {
        |path| files.iter().find(|(name, _)| Path::new(name) == path).map(|f| f.1.to_owned())
    }

    #[test]
    fn version_2_takes_the_tightest_of_all_levels() {
        let read = files(&[
            ("/sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/a/b/cpu.max", "800000 100000\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "1000\n"),
            ("/proc/meminfo", "MemTotal:        2 kB\nMemFree: 1 kB\n"),
        ]);
        assert_eq!(quota("0::/a/b\n", &read), Some(2));
        assert_eq!(memory("0::/a/b\n", &read), 1000);
    }

    #[test]
    fn version_1() {
        let groups = "4:memory:/m\n3:cpuset:/\n2:cpu,cpuacct:/c\n";
        let read = files(&[
            ("/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "50000"),
            ("/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
            ("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096"),
        ]);
        assert_eq!(quota(groups, &read), Some(1));
        assert_eq!(memory(groups, &read), 4096);
    }

    #[test]
    fn nothing_known_means_no_limit() {
        let read = files(&[]);
        assert_eq!(quota("", &read), None);
        assert_eq!(memory("", &read), u64::MAX);
    }

    #[test]
    fn the_quota_limits_the_shards() {
        let machine = |quota| Machine { cpus: vec![0, 1, 2], quota, memory: 0 };
        assert_eq!(machine(None).shards(3), 3);
        assert_eq!(machine(Some(2)).shards(3), 2);
        assert_eq!(machine(Some(9)).shards(1), 1);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look().unwrap();
        assert!(!machine.cpus.is_empty() && machine.memory > 0);
    }
}
