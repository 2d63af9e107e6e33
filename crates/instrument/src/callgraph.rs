//! Who may capture: functions that poll, and everything that can be on the stack above them.
//!
//! Direct calls are followed exactly, indirect calls by type among the functions that exist as
//! references. Functions outside of this set are copied through byte for byte.

use crate::parse::{Body, Module};
use crate::transform::{Error, Options};
use hashbrown::HashMap;
use petgraph::graph::NodeIndex;
use rayon::prelude::*;
use std::collections::BTreeSet;
use wasmparser::types::CoreTypeId;
use wasmparser::{Operator, ValType};

/// What the call graph says about each function index.
pub struct CallGraph {
    pub captures: Vec<bool>,
    /// Functions to rewrite: those that capture or that drop a segment, which must be remembered.
    pub rewrite: Vec<bool>,
    /// Imports that may block.
    pub blocking: Vec<bool>,
    /// Functions that poll at their entry, so that every call cycle polls.
    pub entry_polls: Vec<bool>,
    /// Functions that poll after those of their calls that can lead back to them, for the same end: the
    /// check that is there anyway is then the poll.
    return_polls: Vec<bool>,
    /// Strongly connected component of each function.
    component: Vec<u32>,
    /// Functions that no other one is in a cycle of calls with.
    alone: Vec<bool>,
    /// Strongly connected component of calls through each type.
    indirect_component: HashMap<CoreTypeId, u32>,
    /// Operators that a call of each function takes at most, roughly, where it does not capture: it then neither
    /// loops nor recurs.
    work: Vec<u32>,
    indirect_work: HashMap<CoreTypeId, u32>,
    /// Whether a call through this type may reach a function that captures.
    pub indirect: HashMap<CoreTypeId, bool>,
    /// Every function that may exist as a reference, ascending.
    pub referable: Vec<u32>,
    /// Segments that code can drop: data segments first, then element segments.
    pub dropped: BTreeSet<u32>,
    /// Tables that code can change.
    pub mutated_tables: Vec<bool>,
}

impl CallGraph {
    /// Whether all cycles of calls through a function are calls of its own to itself.
    pub fn is_alone(&self, function: u32) -> bool {
        self.alone[function as usize]
    }

    /// Whether a function polls after a call to another.
    pub fn polls_after(&self, caller: u32, callee: u32) -> bool {
        self.return_polls[caller as usize] && self.component[caller as usize] == self.component[callee as usize]
    }

    /// What an operator takes, roughly, in plain operators, its callee included.
    pub fn work(&self, m: &Module<'_>, op: &Operator<'_>) -> u32 {
        let callee = match op {
            Operator::Call { function_index } => self.work[*function_index as usize],
            Operator::CallIndirect { type_index, .. } | Operator::CallRef { type_index } => {
                self.indirect_work.get(&m.type_ids[*type_index as usize]).copied().unwrap_or(0)
            }
            _ => 0,
        };
        callee.saturating_add(own_work(op))
    }

    /// Whether a function polls after a call through a type.
    pub fn polls_after_indirect(&self, caller: u32, ty: &CoreTypeId) -> bool {
        self.return_polls[caller as usize] && self.indirect_component.get(ty) == Some(&self.component[caller as usize])
    }
}

/// Operators that take as long as a call of the host, which mostly is a system call.
const HOST_CALL: u32 = 1000;
/// Operators that take as long as one that works on many elements.
const BULK: u32 = 10_000;

fn own_work(op: &Operator<'_>) -> u32 {
    match op {
        Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryInit { .. }
        | Operator::MemoryGrow { .. }
        | Operator::TableCopy { .. }
        | Operator::TableFill { .. }
        | Operator::TableInit { .. }
        | Operator::TableGrow { .. } => BULK,
        _ => 1,
    }
}

#[derive(Default)]
struct Summary {
    /// Callees, once per call.
    calls: Vec<u32>,
    /// Type indices, once per call.
    indirect: Vec<u32>,
    /// Callees of tail calls, direct ones and by type index.
    tail_calls: Vec<u32>,
    tail_indirect: Vec<u32>,
    references: Vec<u32>,
    mutated_tables: Vec<u32>,
    /// What its own operators take.
    work: u32,
    has_loop: bool,
    has_try: bool,
    /// (is an element segment, index)
    drops: Vec<(bool, u32)>,
}

/// Analyses the module's calls.
pub fn analyse(m: &Module<'_>, options: &Options) -> Result<CallGraph, Error> {
    let imports = m.function_imports.len();
    let n = m.functions.len();
    let summaries: Vec<Summary> =
        m.bodies.par_iter().map(summarise).collect::<Result<_, wasmparser::BinaryReaderError>>()?;

    let mut referable = m.referenced.clone();
    let mut mutated_tables = vec![false; m.tables.len()];
    for s in &summaries {
        referable.extend(&s.references);
        for t in &s.mutated_tables {
            mutated_tables[*t as usize] = true;
        }
    }
    referable.sort_unstable();
    referable.dedup();
    for t in &m.exported_tables {
        mutated_tables[*t as usize] = true;
    }

    let mut blocking = vec![false; n];
    for (i, import) in m.function_imports.iter().enumerate() {
        blocking[i] = options.blocking_imports.contains(import);
    }

    // One node per function and one per called type: an indirect call goes through its type's node.
    let mut type_nodes: HashMap<CoreTypeId, usize> = HashMap::new();
    let mut edges: Vec<Vec<u32>> = vec![Vec::new(); n];
    for (i, s) in summaries.iter().enumerate() {
        let out = &mut edges[imports + i];
        out.extend(&s.calls);
        for ty in &s.indirect {
            let next = n + type_nodes.len();
            out.push(*type_nodes.entry(m.type_ids[*ty as usize]).or_insert(next) as u32);
        }
        out.sort_unstable();
        out.dedup();
    }
    edges.resize(n + type_nodes.len(), Vec::new());
    for f in &referable {
        if let Some(node) = type_nodes.get(&m.type_ids[m.functions[*f as usize] as usize]) {
            edges[*node].push(*f);
        }
    }

    let component = components(&edges);
    let indirect_component = type_nodes.iter().map(|(id, node)| (*id, component[*node])).collect();
    // A cycle with a tail call in it may never return.
    let mut endless = vec![false; edges.len()];
    for (i, s) in summaries.iter().enumerate() {
        let from = component[imports + i];
        let nodes = s.tail_indirect.iter().map(|t| type_nodes[&m.type_ids[*t as usize]]);
        let tail = s.tail_calls.iter().map(|f| *f as usize).chain(nodes).any(|to| component[to] == from);
        // Results that a frame cannot hold.
        let holds = |t: &ValType| crate::plan::slot_type(m, *t).is_some();
        let odd = !m.type_of((imports + i) as u32).results().iter().all(holds);
        endless[from as usize] |= tail || odd;
    }
    let mut entry_polls = break_cycles(&edges, n, imports);
    let mut return_polls = vec![false; n];
    for f in 0..n {
        if entry_polls[f] && !endless[component[f] as usize] {
            entry_polls[f] = false;
            return_polls[f] = true;
        }
    }
    // A call that ends in an exception passes no poll after it. Whoever catches it, and may call again, polls
    // at its own entry, so that calls that all end so cannot go on for ever either.
    let mut polled = vec![false; edges.len()];
    for f in (0..n).filter(|f| return_polls[*f]) {
        polled[component[f] as usize] = true;
    }
    for (i, s) in summaries.iter().enumerate() {
        entry_polls[imports + i] |= s.has_try && polled[component[imports + i] as usize];
    }
    let mut captures = vec![false; edges.len()];
    let mut work: Vec<usize> = (0..n)
        .filter(|i| {
            blocking[*i] || entry_polls[*i] || return_polls[*i] || (*i >= imports && summaries[*i - imports].has_loop)
        })
        .collect();
    let mut callers: Vec<Vec<u32>> = vec![Vec::new(); edges.len()];
    for (from, out) in edges.iter().enumerate() {
        for to in out {
            callers[*to as usize].push(from as u32);
        }
    }
    for i in &work {
        captures[*i] = true;
    }
    while let Some(i) = work.pop() {
        for c in &callers[i] {
            if !std::mem::replace(&mut captures[*c as usize], true) {
                work.push(*c as usize);
            }
        }
    }
    // Components are numbered with callees first.
    let mut work: Vec<u32> = vec![HOST_CALL; edges.len()];
    let mut order: Vec<usize> = (imports..edges.len()).collect();
    order.sort_unstable_by_key(|node| component[*node]);
    for node in order {
        work[node] = if node < n {
            let s = &summaries[node - imports];
            let indirect = s.indirect.iter().map(|ty| type_nodes[&m.type_ids[*ty as usize]]);
            let callees = s.calls.iter().map(|f| *f as usize).chain(indirect);
            callees.fold(s.work, |sum, callee| sum.saturating_add(work[callee]))
        } else {
            edges[node].iter().map(|callee| work[*callee as usize]).max().unwrap_or(0)
        };
    }
    let indirect_work = type_nodes.iter().map(|(id, node)| (*id, work[*node])).collect();
    let indirect = type_nodes.iter().map(|(id, node)| (*id, captures[*node])).collect();
    captures.truncate(n);
    let mut members = vec![0u32; edges.len()];
    for c in &component {
        members[*c as usize] += 1;
    }
    let alone = component[..n].iter().map(|c| members[*c as usize] == 1).collect();
    let mut component = component;
    component.truncate(n);
    let rewrite = (0..n).map(|i| captures[i] || (i >= imports && !summaries[i - imports].drops.is_empty())).collect();
    let dropped = summaries
        .iter()
        .flat_map(|s| &s.drops)
        .map(|(element, i)| if *element { m.data_segments + i } else { *i })
        .collect();
    Ok(CallGraph {
        captures,
        rewrite,
        dropped,
        blocking,
        entry_polls,
        return_polls,
        component,
        alone,
        indirect_component,
        work,
        indirect_work,
        indirect,
        referable,
        mutated_tables,
    })
}

/// Strongly connected component of each node.
fn components(edges: &[Vec<u32>]) -> Vec<u32> {
    let count = edges.iter().map(Vec::len).sum();
    let mut graph = petgraph::graph::DiGraph::<(), (), u32>::with_capacity(edges.len(), count);
    for _ in edges {
        graph.add_node(());
    }
    for (from, out) in (0..).zip(edges) {
        for to in out {
            graph.add_edge(NodeIndex::new(from), NodeIndex::new(*to as usize), ());
        }
    }
    let mut component = vec![0; edges.len()];
    // Not Tarjan's, which recurses as deep as calls nest.
    for (i, members) in (0..).zip(petgraph::algo::kosaraju_scc(&graph)) {
        for node in members {
            component[node.index()] = i;
        }
    }
    component
}

/// Marks a set of functions that every cycle of calls passes through: the targets of back edges of a
/// depth-first walk.
fn break_cycles(edges: &[Vec<u32>], functions: usize, imports: usize) -> Vec<bool> {
    let mut marked = vec![false; functions];
    let mut state = vec![0u8; edges.len()]; // 0 new, 1 on the path, 2 done
    for root in imports..functions {
        if state[root] != 0 {
            continue;
        }
        let mut path = vec![(root, 0usize)];
        state[root] = 1;
        while let Some((node, next)) = path.last_mut() {
            let Some(to) = edges[*node].get(*next).map(|t| *t as usize) else {
                state[*node] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 if to < functions => marked[to] = true,
                // A cycle closed at a type's node: the functions it reaches are what can poll. The one
                // on the path below the node is on this cycle.
                1 => {
                    let at = path.iter().position(|(p, _)| *p == to).expect("on the path");
                    if let Some((f, _)) = path.get(at + 1) {
                        marked[*f] = true;
                    }
                }
                _ => {}
            }
        }
    }
    marked
}

fn summarise(body: &Body<'_>) -> Result<Summary, wasmparser::BinaryReaderError> {
    // Here, before anything else looks at code: all later phases index by what they read.
    body.validator().validate(&body.body)?;
    let mut s = Summary::default();
    let mut reader = body.body.get_operators_reader()?;
    while !reader.eof() {
        let op = reader.read()?;
        s.work = s.work.saturating_add(own_work(&op));
        match op {
            Operator::Loop { .. } => s.has_loop = true,
            Operator::TryTable { .. } => s.has_try = true,
            Operator::DataDrop { data_index } => s.drops.push((false, data_index)),
            Operator::ElemDrop { elem_index } => s.drops.push((true, elem_index)),
            Operator::Call { function_index } => s.calls.push(function_index),
            Operator::ReturnCall { function_index } => {
                s.calls.push(function_index);
                s.tail_calls.push(function_index);
            }
            Operator::CallIndirect { type_index, .. } | Operator::CallRef { type_index } => s.indirect.push(type_index),
            Operator::ReturnCallIndirect { type_index, .. } | Operator::ReturnCallRef { type_index } => {
                s.indirect.push(type_index);
                s.tail_indirect.push(type_index);
            }
            Operator::RefFunc { function_index } => s.references.push(function_index),
            Operator::TableSet { table }
            | Operator::TableGrow { table }
            | Operator::TableFill { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy { dst_table: table, .. } => s.mutated_tables.push(table),
            _ => {}
        }
    }
    Ok(s)
}
