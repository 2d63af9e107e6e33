//! Machines that are to become nodes: invitations, and images for those without an operating system.

use crate::problem::Wrong;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use utoipa::ToSchema;

/// Most nodes that are invited at once.
pub const INVITED_MAX: usize = 256;
/// Longest name of a node, and longest label.
const NAME_MAX: usize = 63;
const LABEL_MAX: usize = 64;
/// Most labels of a node.
pub const LABELS_MAX: usize = 64;

/// Something that is said about a node, which tasks may ask for, as `zone=a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 1, max_length = 64, pattern = "^\\S+$")]
pub struct Label(pub String);

/// A node that is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeWish {
    /// Its name: letters, digits and '-'; no two nodes have the same.
    #[schema(min_length = 1, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9-]*$")]
    pub name: String,
    /// What it has as soon as it is there.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub labels: Vec<Label>,
}

/// Machines that somebody wants to invite: by name, or one that says its name when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Which nodes they are to be; of none, one machine is invited.
    #[serde(default)]
    #[schema(max_items = 256)]
    pub nodes: Vec<NodeWish>,
}

/// A word by which one machine becomes a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The node that it is to be, if that was said.
    pub name: Option<String>,
    /// The word, and where to say it.
    pub join: String,
    /// What to type on the machine.
    pub command: String,
    /// Seconds that it holds.
    pub ttl: u64,
}

/// An image for machines of an instruction set that have no operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnikernelView {
    /// The instruction set: `x86_64`, `aarch64` or `riscv64`.
    pub isa: String,
    /// What its machines boot: `elf`, `iso`, `raw`.
    pub formats: Vec<String>,
    /// Bytes of the kernel, if it is there.
    pub bytes: Option<u64>,
    /// Why there is no image, and how to get one.
    pub missing: Option<String>,
}

/// Whether a node may be called so: as `wayfare node join` has it.
///
/// # Errors
/// What may be a name.
pub fn check_node_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('-') || !name.chars().all(good) {
        return Err(format!("{name:?} cannot be a node's name: use up to {NAME_MAX} letters, digits and '-'"));
    }
    Ok(())
}

/// Whether something may be a label.
///
/// # Errors
/// What may be one.
pub fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() || label.chars().count() > LABEL_MAX || label.chars().any(char::is_whitespace) {
        return Err(format!("{label:?} cannot be a label: use 1 to {LABEL_MAX} characters without spaces"));
    }
    Ok(())
}

impl InviteRequest {
    /// What of it cannot be used.
    ///
    /// # Errors
    /// All that is wrong, by field.
    pub fn check(&self) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        if self.nodes.len() > INVITED_MAX {
            wrong.push(Wrong::new("nodes", format!("{} nodes are more than {INVITED_MAX}", self.nodes.len())));
            return Err(wrong);
        }
        let mut names = HashSet::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let mut say = |field: String, message| wrong.push(Wrong::new(format!("nodes[{i}].{field}"), message));
            match check_node_name(&node.name) {
                Err(message) => say("name".into(), message),
                Ok(()) if !names.insert(&node.name) => say("name".into(), format!("{} stands here twice", node.name)),
                Ok(()) => {}
            }
            if node.labels.len() > LABELS_MAX {
                say("labels".into(), format!("{} labels are more than {LABELS_MAX}", node.labels.len()));
            }
            for (l, Label(label)) in node.labels.iter().enumerate() {
                if let Err(message) = check_label(label) {
                    say(format!("labels[{l}]"), message);
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

    #[test]
    fn machines_are_read_and_what_is_wrong_is_told_by_field() {
        let text = br#"{"nodes": [{"name": "gw1", "labels": ["zone=a"]}, {"name": "gw2"}]}"#;
        let good: InviteRequest = read(text).unwrap();
        assert_eq!((good.check(), good.nodes[0].labels[0].0.as_str()), (Ok(()), "zone=a"));
        let fields = |request: &InviteRequest| {
            request.check().unwrap_err().into_iter().map(|wrong| wrong.field).collect::<Vec<_>>()
        };
        let node = |name: &str, label: &str| NodeWish { name: name.into(), labels: vec![Label(label.into())] };
        let nodes = vec![node("gw1", "a b"), node("gw1", ""), node("-x", "x"), node("a_b", &"x".repeat(65))];
        assert_eq!(
            fields(&InviteRequest { nodes }),
            [
                "nodes[0].labels[0]",
                "nodes[1].name",
                "nodes[1].labels[0]",
                "nodes[2].name",
                "nodes[3].name",
                "nodes[3].labels[0]"
            ]
        );
        let many = (0..=INVITED_MAX).map(|i| node(&format!("n{i}"), "x")).collect();
        assert_eq!(fields(&InviteRequest { nodes: many }), ["nodes"]);
        let typed = read::<InviteRequest>(b"{\"nodes\": [\n{\"name\": 1}]}").unwrap_err();
        assert!(typed.field == "nodes[0].name" && typed.message.contains("line 2"), "{typed:?}");
    }
}
