//! Tasks, and sets of them, as users order them.

use crate::SET_MAX;
use crate::problem::Wrong;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use utoipa::ToSchema;

/// What a set is to be good at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// That its last task ends as soon as can be.
    #[default]
    Makespan,
    /// That its tasks end soon on average.
    MeanResponse,
}

/// A task that somebody wants to have run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// Its name; no two tasks that the controller knows have the same. With a count, `name-1` and so on.
    #[schema(min_length = 1, max_length = 48, pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    pub name: String,
    /// The program: BLAKE3 of the module, 64 hexadecimal digits. In a file for `wayfare submit`, the module's path.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub image: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Processors that it counts for, 0.01 to 1024.
    #[serde(default = "one")]
    #[schema(minimum = 0.01, maximum = 1024)]
    pub cores: f64,
    /// Bytes of memory that it may use, 64 KiB to 16 TiB.
    #[serde(default = "memory")]
    #[schema(minimum = 65536, maximum = 17592186044416_i64)]
    pub memory: u64,
    /// It needs a GPU.
    #[serde(default)]
    pub gpu: bool,
    /// Labels that its node must have, as `zone=a`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// It stays on the node of the controller.
    #[serde(default)]
    pub local_only: bool,
    /// It keeps a warm standby on another node, from which it goes on if its node is lost.
    #[serde(default)]
    pub standby: bool,
    /// Seconds from one snapshot of it that the controller keeps to the next: it goes on from the last one if its node is lost and it
    /// has no standby. None are made unless this is said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400)]
    pub snapshot_every: Option<f64>,
    /// The higher the sooner.
    #[serde(default)]
    pub priority: i32,
    /// Seconds from its submission until it is to be over: nothing is refused for it, late ones are counted.
    #[serde(default)]
    pub deadline: Option<f64>,
    /// How many of it.
    #[serde(default = "one_of_it")]
    #[schema(minimum = 1, maximum = 100000)]
    pub count: u32,
    /// How many seconds it will run, about, if nothing is known of it yet.
    #[serde(default)]
    pub estimate: Option<f64>,
}

fn one() -> f64 {
    1.0
}

fn memory() -> u64 {
    256 << 20
}

fn one_of_it() -> u32 {
    1
}

/// Tasks that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// Its name; no two sets have the same.
    #[schema(min_length = 1, max_length = 48, pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    pub name: String,
    /// What it is to be good at.
    #[serde(default)]
    pub objective: Objective,
    /// Its tasks.
    #[schema(min_items = 1)]
    pub tasks: Vec<TaskRequest>,
}

/// Longest name.
const NAME_MAX: usize = 48;
/// Most arguments, variables and labels of a task, and bytes of all of them.
const MANY: (usize, usize) = (256, 64 << 10);

/// Whether something may be called so.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with(['.', '-']) || !name.chars().all(good) {
        return Err(format!("{name:?} cannot be a name: use up to {NAME_MAX} letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

impl TaskRequest {
    /// What of it cannot be used; `at` is where it stands in the request.
    fn check(&self, at: &str, wrong: &mut Vec<Wrong>) {
        let mut say = |field: &str, message: String| wrong.push(Wrong::new(format!("{at}{field}"), message));
        if let Err(message) = check_name(&self.name) {
            say("name", message);
        }
        if self.image.len() != 64 || !self.image.bytes().all(|b| b.is_ascii_hexdigit()) {
            say("image", "is no digest of a module: 64 hexadecimal digits".into());
        }
        if !(0.01..=1024.0).contains(&self.cores) {
            say("cores", format!("{} is not 0.01 to 1024", self.cores));
        }
        if !(64 << 10..=16 << 40).contains(&self.memory) {
            say("memory", format!("{} bytes are not 64 KiB to 16 TiB", self.memory));
        }
        if self.count == 0 || self.count as usize > SET_MAX {
            say("count", format!("{} is not 1 to {SET_MAX}", self.count));
        }
        for (field, value) in [("deadline", self.deadline), ("estimate", self.estimate)] {
            if value.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 1e9)) {
                say(field, "is not a number of seconds above 0 and up to 1e9".into());
            }
        }
        if self.snapshot_every.is_some_and(|seconds| !(1.0..=86_400.0).contains(&seconds)) {
            say("snapshot_every", "is not 1 to 86400 seconds".into());
        }
        let lists = [("args", self.args.len()), ("env", self.env.len()), ("labels", self.labels.len())];
        for (field, n) in lists.into_iter().filter(|(_, n)| *n > MANY.0) {
            say(field, format!("{n} are more than {}", MANY.0));
        }
        let env = self.env.iter().map(|(name, value)| name.len() + value.len());
        let bytes: usize = self.args.iter().chain(&self.labels).map(String::len).chain(env).sum();
        if bytes > MANY.1 {
            say("args", format!("with env and labels it has {bytes} bytes, where {} may be", MANY.1));
        }
        let has_nul = |text: &String| text.contains('\0');
        if self.args.iter().any(has_nul) || self.env.iter().any(|(name, value)| has_nul(name) || has_nul(value)) {
            say("args", "a byte of 0 stands in it".into());
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            say("env", "a name is empty, or has '=' in it".into());
        }
    }

    /// The tasks that it stands for, each with a name of its own.
    pub fn names(&self) -> Vec<String> {
        match self.count {
            1 => vec![self.name.clone()],
            n => (1..=n).map(|i| format!("{}-{i}", self.name)).collect(),
        }
    }
}

impl SetRequest {
    /// A set of one task, of the same name.
    pub fn of(task: TaskRequest) -> SetRequest {
        SetRequest { name: task.name.clone(), objective: Objective::default(), tasks: vec![task] }
    }

    /// What of it cannot be used: nothing of it is taken then.
    ///
    /// # Errors
    /// All that is wrong, by field.
    pub fn check(&self) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        if let Err(message) = check_name(&self.name) {
            wrong.push(Wrong::new("name", message));
        }
        if self.tasks.is_empty() {
            wrong.push(Wrong::new("tasks", "a set has one task at least"));
        }
        let all: u64 = self.tasks.iter().map(|task| u64::from(task.count)).sum();
        if all > SET_MAX as u64 {
            wrong.push(Wrong::new("tasks", format!("{all} tasks are more than {SET_MAX}")));
            return Err(wrong);
        }
        let mut names = HashSet::new();
        for (i, task) in self.tasks.iter().enumerate() {
            task.check(&format!("tasks[{i}]."), &mut wrong);
            for name in task.names() {
                if name.len() > NAME_MAX && task.name.len() <= NAME_MAX {
                    wrong.push(Wrong::new(format!("tasks[{i}].name"), format!("{name} is longer than {NAME_MAX}")));
                    break;
                }
                if let Some(twice) = names.replace(name) {
                    wrong.push(Wrong::new(format!("tasks[{i}].name"), format!("{twice} stands here twice")));
                    break;
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    fn set(tasks: &str) -> Result<SetRequest, Wrong> {
        read(format!("{{\"name\": \"s\", \"tasks\": [\n{tasks}\n]}}").as_bytes())
    }

    fn task(more: &str) -> String {
        format!("{{\"name\": \"t\", \"image\": \"{}\"{more}}}", "ab".repeat(32))
    }

    #[test]
    fn a_set_is_read_with_what_was_left_out() {
        let set = set(&task(", \"count\": 3")).unwrap();
        assert_eq!((set.check(), set.objective, set.tasks[0].cores), (Ok(()), Objective::Makespan, 1.0));
        assert_eq!(set.tasks[0].names(), ["t-1", "t-2", "t-3"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_field_and_line() {
        let wrong = set(&format!("{},\n{}", task(""), task(", \"cores\": \"four\""))).unwrap_err();
        assert_eq!(wrong.field, "tasks[1].cores");
        assert!(wrong.message.contains("line 3"), "{}", wrong.message);
        let wrong = set(&task(", \"colour\": 1")).unwrap_err();
        assert!(wrong.message.contains("unknown field `colour`"), "{}", wrong.message);
        assert!(read::<SetRequest>(b"{\"name\": \"s\", \"tasks\": []} x").unwrap_err().message.contains("trailing"));
        assert!(read::<SetRequest>(b"\xff").is_err());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let more = ", \"cores\": 0, \"memory\": 1, \"deadline\": -1.0, \"env\": {\"a=b\": \"\"}";
        let set = set(&format!("{},{}", task(more), task(""))).unwrap();
        let fields: Vec<_> = set.check().unwrap_err().into_iter().map(|wrong| wrong.field).collect();
        let of = |field: &str| format!("tasks[0].{field}");
        assert_eq!(fields, [of("cores"), of("memory"), of("deadline"), of("env"), "tasks[1].name".into()]);
    }
}
