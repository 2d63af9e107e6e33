//! First pass over a function: validates it, drops dead code, and finds constructs and migration points.

use crate::callgraph::CallGraph;
use crate::cover;
use crate::meta::PointKind;
use crate::parse::{Body, Module};
use crate::transform::Error;
use crate::weigh;
use wasmparser::{BlockType, FuncType, FuncValidatorAllocations, HeapType, Operator, RefType, UnpackedIndex, ValType};

/// No construct.
pub const NONE: u32 = u32::MAX;

/// A reachable operator.
pub struct Op<'a> {
    pub operator: Operator<'a>,
    /// Byte range in the module.
    pub start: u32,
    pub end: u32,
    /// The construct that a block, loop, if, try, else or end belongs to.
    pub construct: u32,
    /// Whether control falls into this operator (only `else` and `end` may be reached by a branch alone).
    pub falls_in: bool,
    /// Type of the topmost operand, for branches on null.
    pub top: Option<ValType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Function,
    Block,
    Loop,
    If,
    Try,
}

/// A structured construct; the function's body is construct 0.
pub struct Construct {
    pub kind: Kind,
    pub start: u32,
    pub else_op: u32,
    pub end: u32,
    pub params: Vec<ValType>,
    pub results: Vec<ValType>,
    /// Types of the operands that lie under the parameters, the whole function's.
    pub under: Vec<ValType>,
    pub parent: u32,
    /// Nesting depth.
    pub level: u32,
    /// A resumed frame enters inside: the construct's start must be passed without running what precedes it.
    pub landing: bool,
    /// The construct whose top dispatches to landings here: the nearest function, loop or try.
    pub region: u32,
    /// Point of the loop's header, if it polls.
    pub header: u32,
    /// Whether the loop's turns are counted as work where it branches back: it has no poll that would do so.
    pub counts: bool,
}

/// A migration point.
pub struct Point {
    pub op: u32,
    pub offset: u32,
    pub kind: PointKind,
    /// Operands that stay on the stack (without arguments, except for a host call, which is issued again).
    pub stack: Vec<ValType>,
    /// How many of `stack`, from the top, are the host call's arguments.
    pub args: usize,
    /// Results of the call, if one.
    pub results: Vec<ValType>,
    /// The construct it lies directly in (for a loop header: the loop's parent).
    pub construct: u32,
    /// Whether passing it is work done ([`crate::weigh`]).
    pub counts: bool,
}

impl Point {
    /// The poll after a call's return.
    pub fn poll_after(&self) -> Point {
        Point { kind: PointKind::Return, stack: self.stack.clone(), results: self.results.clone(), ..*self }
    }
}

/// What the first pass learns.
pub struct Scan<'a> {
    pub ops: Vec<Op<'a>>,
    pub constructs: Vec<Construct>,
    pub points: Vec<Point>,
    /// Types of parameters and declared locals.
    pub locals: Vec<ValType>,
    pub params: usize,
    pub ty: FuncType,
    pub graph: &'a CallGraph,
}

/// Scans one function that may capture. `chunk` is the option of that name.
pub fn scan<'a>(m: &Module<'a>, graph: &'a CallGraph, body: Body<'a>, chunk: u32) -> Result<Scan<'a>, Error> {
    let function = body.validate.index;
    let ty = m.type_of(function).clone();
    let mut v = body.validate.into_validator(FuncValidatorAllocations::default());
    let mut locals = body.body.get_binary_reader();
    v.read_locals(&mut locals)?;
    let mut reader = body.body.get_operators_reader()?;
    let local_types = (0..v.len_locals()).map(|i| encodable(m, v.get_local_type(i).expect("in range"))).collect();
    let mut s = Scan {
        ops: Vec::with_capacity(body.body.range().len() / 3),
        constructs: vec![Construct {
            kind: Kind::Function,
            start: 0,
            else_op: NONE,
            end: 0,
            params: Vec::new(),
            results: ty.results().to_vec(),
            under: Vec::new(),
            parent: NONE,
            level: 0,
            landing: true,
            region: 0,
            header: NONE,
            counts: false,
        }],
        points: Vec::new(),
        locals: local_types,
        params: ty.params().len(),
        ty,
        graph,
    };
    if graph.entry_polls[function as usize] {
        s.points.push(Point {
            op: 0,
            offset: reader.original_position() as u32,
            kind: PointKind::Entry,
            stack: Vec::new(),
            args: 0,
            results: Vec::new(),
            construct: 0,
            counts: true,
        });
    }
    let mut open = vec![0u32];
    let mut dead_depth = 0u32;
    while !reader.eof() {
        let start = reader.original_position();
        let operator = reader.read()?;
        let end = reader.original_position();
        let dead = v.get_control_frame(0).is_some_and(|f| f.unreachable);
        if dead_depth > 0 || (dead && !matches!(operator, Operator::End | Operator::Else)) {
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                    dead_depth += 1;
                }
                Operator::End => dead_depth -= 1,
                _ => {}
            }
            v.op(start, &operator)?;
            continue;
        }
        let index = s.ops.len() as u32;
        let current = *open.last().expect("inside the function");
        let mut construct = NONE;
        match &operator {
            Operator::Block { blockty } => construct = s.open(m, &v, &mut open, Kind::Block, *blockty, index),
            Operator::If { blockty } => construct = s.open(m, &v, &mut open, Kind::If, *blockty, index),
            Operator::TryTable { try_table } => {
                construct = s.open(m, &v, &mut open, Kind::Try, try_table.ty, index);
            }
            Operator::Loop { blockty } => {
                construct = s.open(m, &v, &mut open, Kind::Loop, *blockty, index);
                let c = &mut s.constructs[construct as usize];
                c.header = s.points.len() as u32;
                let stack = c.under.clone();
                s.points.push(Point {
                    op: index,
                    offset: start as u32,
                    kind: PointKind::Loop,
                    stack,
                    args: 0,
                    results: Vec::new(),
                    construct: current,
                    counts: true,
                });
            }
            Operator::Else => {
                construct = current;
                s.constructs[construct as usize].else_op = index;
            }
            Operator::End => {
                construct = open.pop().expect("validated");
                s.constructs[construct as usize].end = index;
            }
            _ => {}
        }
        if let Some((kind, callee, extra)) = s.capturing_call(m, graph, &operator) {
            let again = matches!(kind, PointKind::HostCall(_));
            let args = callee.params().len() + extra;
            let mut stack = operands(m, &v);
            if !again {
                stack.truncate(stack.len() - args);
            }
            s.points.push(Point {
                op: index,
                offset: start as u32,
                kind,
                stack,
                args: if again { args } else { 0 },
                results: callee.results().to_vec(),
                construct: current,
                counts: false,
            });
            let polls = match operator {
                Operator::Call { function_index } => graph.polls_after(function, function_index),
                Operator::CallIndirect { type_index, .. } | Operator::CallRef { type_index } => {
                    graph.polls_after_indirect(function, &m.type_ids[type_index as usize])
                }
                _ => false,
            };
            if polls && !again {
                let poll = s.points.last().expect("just pushed").poll_after();
                s.points.push(poll);
            }
        }
        let top = matches!(operator, Operator::BrOnNull { .. } | Operator::BrOnNonNull { .. })
            .then(|| v.get_operand_type(0).flatten().map(|t| encodable(m, t)))
            .flatten();
        v.op(start, &operator)?;
        s.ops.push(Op { operator, start: start as u32, end: end as u32, construct, falls_in: !dead, top });
    }
    reader.finish()?;
    s.mark_landings();
    cover::cover_loops(m, &mut s, chunk);
    weigh::weigh(&mut s, graph.is_alone(function));
    Ok(s)
}

impl<'a> Scan<'a> {
    fn open<T: wasmparser::WasmModuleResources>(
        &mut self,
        m: &Module<'_>,
        v: &wasmparser::FuncValidator<T>,
        open: &mut Vec<u32>,
        kind: Kind,
        ty: BlockType,
        start: u32,
    ) -> u32 {
        let (params, results) = block_types(m, ty);
        let mut under = operands(m, v);
        if kind == Kind::If {
            under.pop();
        }
        under.truncate(under.len() - params.len());
        let parent = *open.last().expect("inside the function");
        let id = self.constructs.len() as u32;
        let region = match kind {
            Kind::Block | Kind::If => self.constructs[parent as usize].region,
            Kind::Loop | Kind::Try | Kind::Function => id,
        };
        let level = self.constructs[parent as usize].level + 1;
        self.constructs.push(Construct {
            kind,
            start,
            else_op: NONE,
            end: NONE,
            params,
            results,
            under,
            parent,
            level,
            landing: false,
            region,
            header: NONE,
            counts: false,
        });
        open.push(id);
        id
    }

    /// Whether a construct lies in a try of this function.
    pub fn in_try(&self, mut construct: u32) -> bool {
        while construct != NONE {
            let c = &self.constructs[construct as usize];
            if c.kind == Kind::Try {
                return true;
            }
            construct = c.parent;
        }
        false
    }

    /// Everything around a point will be entered in the middle by a resumed frame.
    pub fn mark_landings(&mut self) {
        for c in &mut self.constructs {
            c.landing = false;
        }
        for point in &self.points {
            let mut c = point.construct;
            while c != NONE && !std::mem::replace(&mut self.constructs[c as usize].landing, true) {
                c = self.constructs[c as usize].parent;
            }
        }
    }

    /// For a call that may capture: its kind, its callee's type, and operands besides the arguments.
    fn capturing_call<'m>(
        &self,
        m: &'m Module<'_>,
        graph: &CallGraph,
        operator: &Operator<'_>,
    ) -> Option<(PointKind, &'m FuncType, usize)> {
        let by_type = |ty: u32| m.types[ty as usize].as_ref().expect("validated: a function type");
        match *operator {
            Operator::Call { function_index: f } if graph.captures[f as usize] => {
                let kind = if f < m.imported_functions() { PointKind::HostCall(f) } else { PointKind::Call(f) };
                Some((kind, m.type_of(f), 0))
            }
            // A tail call to a host function that blocks keeps this frame: there is nobody else to issue it again.
            Operator::ReturnCall { function_index: f } if graph.blocking[f as usize] => {
                Some((PointKind::HostCall(f), m.type_of(f), 0))
            }
            Operator::CallIndirect { type_index, .. } | Operator::CallRef { type_index }
                if graph.indirect[&m.type_ids[type_index as usize]] =>
            {
                Some((PointKind::CallIndirect, by_type(type_index), 1))
            }
            _ => None,
        }
    }
}

/// Parameters and results of a block.
pub fn block_types(m: &Module<'_>, ty: BlockType) -> (Vec<ValType>, Vec<ValType>) {
    match ty {
        BlockType::Empty => (Vec::new(), Vec::new()),
        BlockType::Type(t) => (Vec::new(), vec![t]),
        BlockType::FuncType(i) => {
            let f = m.types[i as usize].as_ref().expect("validated: a function type");
            (f.params().to_vec(), f.results().to_vec())
        }
    }
}

/// The operand stack, bottom first. In reachable code every type is known.
fn operands<T: wasmparser::WasmModuleResources>(m: &Module<'_>, v: &wasmparser::FuncValidator<T>) -> Vec<ValType> {
    let height = v.operand_stack_height() as usize;
    (0..height).rev().map(|depth| encodable(m, v.get_operand_type(depth).flatten().expect("reachable code"))).collect()
}

/// Turns a validator's canonical type back into one that names a type of this module.
fn encodable(m: &Module<'_>, ty: ValType) -> ValType {
    let ValType::Ref(r) = ty else { return ty };
    let heap = match r.heap_type() {
        HeapType::Concrete(UnpackedIndex::Id(id)) => HeapType::Concrete(UnpackedIndex::Module(m.type_of_id[&id])),
        HeapType::Exact(UnpackedIndex::Id(id)) => HeapType::Exact(UnpackedIndex::Module(m.type_of_id[&id])),
        other => other,
    };
    RefType::new(r.is_nullable(), heap).map_or(ty, ValType::Ref)
}
