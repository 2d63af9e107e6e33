//! Second pass over a function: which locals lie where in its frame, which region restores them, and
//! which labels must be open at a region's top so that a resumed frame can jump to its point.

use crate::liveness::{self, BitSet};
use crate::meta::{PointKind, SlotType};
use crate::parse::{Module, is_function_ref};
use crate::scan::{Kind, NONE, Scan};
use crate::strip::{self, Strip};
use crate::transform::{Options, Refusal};
use hashbrown::{HashMap, HashSet};
use wasmparser::{Operator, RefType, ValType};

/// A local that the transformation adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Temp {
    /// An operand that lies at this height while a point or a construct with one is passed.
    Depth(u32, ValType),
    /// A parameter of the construct at this nesting depth.
    Param(u32, u32, ValType),
    /// A value carried by branches to the construct at this nesting depth.
    Label(u32, u32, ValType),
    /// A call's argument, while operands under it are put away.
    Arg(u32, ValType),
    /// A call's result, between the call and the check after it.
    Result(u32, ValType),
    /// For a moment only.
    Scratch(ValType),
    /// Address of the frame that is written or read.
    Base,
    /// The point that is written or read.
    Point,
    /// Bound of a strip-mined loop's chunk.
    Limit,
    /// Turns of loops that are not counted as work yet.
    Turns,
}

/// Allocates added locals after the function's own.
#[derive(Clone)]
pub struct Locals {
    first: u32,
    map: HashMap<Temp, u32>,
    pub types: Vec<ValType>,
}

impl Locals {
    pub fn index(&mut self, temp: Temp) -> u32 {
        let ty = match temp {
            Temp::Depth(_, t)
            | Temp::Param(_, _, t)
            | Temp::Label(_, _, t)
            | Temp::Arg(_, t)
            | Temp::Result(_, t)
            | Temp::Scratch(t) => nullable(t),
            Temp::Base | Temp::Point | Temp::Limit => ValType::I32,
            Temp::Turns => ValType::I64,
        };
        let (first, types) = (self.first, &mut self.types);
        *self.map.entry(temp).or_insert_with(|| {
            types.push(ty);
            first + types.len() as u32 - 1
        })
    }
}

/// The same type with null added: locals must have a default.
pub fn nullable(ty: ValType) -> ValType {
    match ty {
        ValType::Ref(r) if !r.is_nullable() => ValType::Ref(r.nullable()),
        other => other,
    }
}

/// A label in the emitted function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// What branches to this construct of the original function go to.
    Construct(u32),
    /// The else branch of an `if` that is entered in the middle.
    Else(u32),
    /// Leaves a loop that counts turns in a local, for this construct.
    Leave(u32),
    /// Right before a loop or try.
    Before(u32),
    /// Right after the call at a point (right before it, for a host call).
    Resumed(u32),
    /// The end of the function's entry test.
    Entered,
    /// Where the code that writes what points have in common is entered.
    Shared(u32),
    /// Writes the frame's header and returns.
    Unwind,
    /// Returns values that nobody looks at.
    Dummies,
    /// Made as needed.
    Fresh(u32),
}

/// A label opened at a region's top and closed at a place in its code.
#[derive(Clone, Copy, Debug)]
pub struct Hoisted {
    /// Operator index times four, plus: 0 before it, 1 in it, 3 after it.
    pub at: u32,
    pub label: Label,
}

/// A value of a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameSlot {
    pub local: u32,
    pub ty: ValType,
    pub slot: SlotType,
    pub offset: u32,
}

/// Everything the emitter needs besides the scan.
#[derive(Clone)]
pub struct Plan {
    pub locals: Locals,
    pub slots: Vec<FrameSlot>,
    pub frame_size: u32,
    /// Places where points enter the code that they share, ascending: it writes the slots before that one.
    pub shared: Vec<u32>,
    /// Points of loops without points inside: they write all they have themselves.
    pub tight: HashSet<u32>,
    /// Per point, indices of `slots`.
    pub live: Vec<Vec<u32>>,
    /// Per (region, point directly in it): indices of `slots` to restore on the way to the point.
    pub at_home: HashMap<(u32, u32), Vec<u32>>,
    /// Per (region, loop or try directly in it): indices of `slots` to restore on the way inside.
    pub towards: HashMap<(u32, u32), Vec<u32>>,
    /// Per region: labels to open, outermost first.
    pub hoisted: HashMap<u32, Vec<Hoisted>>,
    /// Per region: the points inside, as a range (points are in code order).
    pub points: HashMap<u32, std::ops::Range<u32>>,
    /// Strip-mined loops.
    pub strips: HashMap<u32, Strip>,
    pub refusals: Vec<Refusal>,
}

/// What a value costs that is written at a point; that is handed to the shared code; that is made up for
/// it. In code bytes, roughly, but tuned for time.
const WRITTEN: i64 = 7;
const HANDED: i64 = 0;
const MADE_UP: i64 = 2;
/// Places at most where the shared code is entered.
const SHARED_ENTRIES: usize = 8;

impl Plan {
    /// The place where a point enters the shared code, as an index into `shared`.
    pub fn enters_shared(&self, point: u32) -> Option<usize> {
        if self.tight.contains(&point) {
            return None;
        }
        let live = &self.live[point as usize];
        let gains = self.shared.iter().map(|k| gain(live, *k)).enumerate();
        gains.filter(|(_, g)| *g > 0).max_by_key(|(i, g)| (*g, std::cmp::Reverse(*i))).map(|(i, _)| i)
    }

    /// Chooses the slots that are written by shared code.
    ///
    /// Machine code for a value written at each point is long, and an allocator of registers that does not
    /// know these places to be cold (regalloc2) takes each for a reason to have the value in a register;
    /// handed over by a branch, it may lie anywhere (measured on SQLite: time 1.35 to 1.03, size 2.1 to 1.8).
    fn choose_shared(&mut self) {
        let shareable = self.slots.iter().take_while(|s| !s.slot.is_reference()).count() as u32;
        let step = shareable.div_ceil(32).max(1) as usize;
        let mut gains = vec![0; self.live.len()];
        while self.shared.len() < SHARED_ENTRIES {
            // The shared code itself is written once.
            let written = self.shared.last().copied().unwrap_or(0);
            let more = |k: u32| -> i64 {
                let sum: i64 = self.live.iter().zip(&gains).map(|(l, g)| (gain(l, k) - g).max(0)).sum();
                sum - i64::from(k.saturating_sub(written)) * WRITTEN
            };
            let best = (1..=shareable).rev().step_by(step).map(|k| (more(k), k)).max();
            let Some((_, k)) = best.filter(|(g, _)| *g > 0) else { break };
            self.shared.push(k);
            self.shared.sort_unstable();
            for (l, g) in self.live.iter().zip(&mut gains) {
                *g = (*g).max(gain(l, k));
            }
        }
    }
}

/// Code bytes that a point saves by leaving the slots before `shared` to the shared code.
fn gain(live: &[u32], shared: u32) -> i64 {
    let handed = live.partition_point(|slot| *slot < shared) as i64;
    handed * (WRITTEN - HANDED) - (i64::from(shared) - handed) * MADE_UP
}

/// Plans one function.
pub fn plan(m: &Module<'_>, s: &Scan<'_>, function: u32, options: &Options) -> Plan {
    let live = liveness::live_at_points(s);
    let mut p = Plan {
        locals: Locals { first: s.locals.len() as u32, map: HashMap::new(), types: Vec::new() },
        slots: Vec::new(),
        frame_size: 0,
        shared: Vec::new(),
        tight: s
            .constructs
            .iter()
            .filter(|c| c.kind == Kind::Loop && c.header != NONE && !c.landing)
            .map(|c| c.header)
            .collect(),
        live: Vec::new(),
        at_home: HashMap::new(),
        towards: HashMap::new(),
        hoisted: HashMap::new(),
        points: HashMap::new(),
        strips: HashMap::new(),
        refusals: Vec::new(),
    };
    let mut header_of: HashMap<u32, u32> = HashMap::new();
    for (i, c) in s.constructs.iter().enumerate() {
        if c.header != NONE {
            header_of.insert(c.header, i as u32);
        }
    }
    // The locals of each point, then their order in the frame: most often live first, for short offsets.
    let mut types: HashMap<u32, ValType> = HashMap::new();
    let mut uses: HashMap<u32, u32> = HashMap::new();
    let mut per_point: Vec<Vec<u32>> = Vec::new();
    let mut results: HashSet<u32> = HashSet::new();
    for (i, point) in s.points.iter().enumerate() {
        let mut all: Vec<u32> = live[i].iter().collect();
        for l in &all {
            types.entry(*l).or_insert(s.locals[*l as usize]);
        }
        for (depth, ty) in point.stack.iter().enumerate() {
            let l = p.locals.index(Temp::Depth(depth as u32, *ty));
            types.insert(l, nullable(*ty));
            all.push(l);
        }
        if point.kind == PointKind::Loop {
            let c = &s.constructs[header_of[&(i as u32)] as usize];
            for (k, ty) in c.params.iter().enumerate() {
                let l = p.locals.index(Temp::Label(c.level, k as u32, *ty));
                types.insert(l, nullable(*ty));
                all.push(l);
            }
        }
        if point.kind == PointKind::Return {
            for (k, ty) in point.results.iter().enumerate() {
                let l = p.locals.index(Temp::Result(k as u32, *ty));
                results.insert(l);
                types.insert(l, nullable(*ty));
                all.push(l);
            }
        }
        for l in &all {
            *uses.entry(*l).or_default() += 1;
        }
        per_point.push(all);
    }
    let mut order: Vec<u32> = uses.keys().copied().collect();
    order.sort_unstable_by_key(|l| (std::cmp::Reverse(uses[l]), *l));
    let mut slot_of: HashMap<u32, u32> = HashMap::new();
    for l in order {
        let ty = types[&l];
        let Some(slot) = slot_type(m, ty) else {
            let reason = format!("keeps {} across a migration point, which cannot be captured", describe(ty));
            p.refusals.push(Refusal { place: m.name_of(function), reason });
            continue;
        };
        slot_of.insert(l, p.slots.len() as u32);
        p.slots.push(FrameSlot { local: l, ty, slot, offset: p.frame_size });
        p.frame_size += slot.size();
    }
    p.frame_size += crate::abi::FRAME_HEADER;
    // A saved reference that is stale would name an entry that is gone: those are written at every point.
    let references: Vec<u32> = (0..p.slots.len() as u32).filter(|i| p.slots[*i as usize].slot.is_reference()).collect();
    for all in &per_point {
        let mut slots: Vec<u32> = all.iter().filter_map(|l| slot_of.get(l).copied()).collect();
        slots.extend(&references);
        slots.sort_unstable();
        slots.dedup();
        p.live.push(slots);
    }
    for op in &s.ops {
        let callee = match op.operator {
            Operator::ReturnCall { function_index } => m.type_of(function_index),
            Operator::ReturnCallIndirect { type_index, .. } | Operator::ReturnCallRef { type_index } => {
                m.types[type_index as usize].as_ref().expect("validated: a function type")
            }
            _ => continue,
        };
        // The caller's frame would expect the results of this function, and find the callee's.
        if callee.results() != s.ty.results() {
            let reason = "tail-calls a function that returns a subtype of what it returns itself".into();
            p.refusals.push(Refusal { place: m.name_of(function), reason });
        }
    }
    p.choose_shared();
    if options.resume_clones {
        plan_resume(s, &results, &mut p);
        hoist(s, &mut p);
    }
    for (i, _) in s.constructs.iter().enumerate().filter(|(_, c)| c.kind == Kind::Loop) {
        if let Some(strip) = strip::recognise(m, s, i as u32, options.chunk) {
            p.strips.insert(i as u32, strip);
        }
    }
    p
}

/// Where each local is restored. `results` are those that hold a call's results.
fn plan_resume(s: &Scan<'_>, results: &HashSet<u32>, p: &mut Plan) {
    let assigned = assigned_in_loops(s);
    let mut towards: HashMap<(u32, u32), BitSet> = HashMap::new();
    for (i, slots) in p.live.iter().enumerate() {
        // A local is restored in the innermost region around the point that assigns it: further out its
        // value would be overwritten, further in it would stop being invariant there for the optimiser.
        let home = s.constructs[s.points[i].construct as usize].region;
        for slot in slots {
            let local = p.slots[*slot as usize].local;
            if results.contains(&local) && !s.points[i].kind.is_innermost() {
                // The callee's own results stand there by then.
                continue;
            }
            let (mut region, mut child) = (home, NONE);
            if local < s.locals.len() as u32 && !p.slots[*slot as usize].slot.is_reference() {
                while s.constructs[region as usize].kind == Kind::Loop && !assigned[&region].contains(local) {
                    let parent = s.constructs[region as usize].parent;
                    child = region;
                    region = s.constructs[parent as usize].region;
                }
            }
            if child == NONE {
                p.at_home.entry((region, i as u32)).or_default().push(*slot);
            } else {
                towards.entry((region, child)).or_insert_with(|| BitSet::new(p.slots.len())).insert(*slot);
            }
        }
        let mut region = home;
        loop {
            let r = p.points.entry(region).or_insert(i as u32..i as u32 + 1);
            r.start = r.start.min(i as u32);
            r.end = r.end.max(i as u32 + 1);
            let parent = s.constructs[region as usize].parent;
            if parent == NONE {
                break;
            }
            region = s.constructs[parent as usize].region;
        }
    }
    p.towards = towards.into_iter().map(|(way, set)| (way, set.iter().collect())).collect();
}

fn hoist(s: &Scan<'_>, p: &mut Plan) {
    let mut add = |region: u32, at: u32, label: Label| {
        p.hoisted.entry(region).or_default().push(Hoisted { at, label });
    };
    for (i, c) in s.constructs.iter().enumerate().skip(1) {
        let i = i as u32;
        let outer = s.constructs[c.parent as usize].region;
        match c.kind {
            Kind::Block if c.landing => add(outer, c.end * 4 + 1, Label::Construct(i)),
            Kind::If if c.landing => {
                add(outer, c.end * 4 + 1, Label::Construct(i));
                if c.else_op != NONE {
                    add(outer, c.else_op * 4 + 1, Label::Else(i));
                }
            }
            Kind::Loop if c.landing || c.header != NONE => add(outer, c.start * 4, Label::Before(i)),
            Kind::Try if c.landing => add(outer, c.start * 4, Label::Before(i)),
            _ => {}
        }
    }
    for (i, point) in s.points.iter().enumerate() {
        let region = s.constructs[point.construct as usize].region;
        match point.kind {
            PointKind::Call(_) | PointKind::CallIndirect => add(region, point.op * 4 + 3, Label::Resumed(i as u32)),
            PointKind::HostCall(_) => add(region, point.op * 4, Label::Resumed(i as u32)),
            PointKind::Loop | PointKind::Entry | PointKind::Return => {}
        }
    }
    for list in p.hoisted.values_mut() {
        list.sort_by_key(|h| std::cmp::Reverse(h.at));
    }
}

/// Locals assigned inside each loop, inner constructs included.
fn assigned_in_loops(s: &Scan<'_>) -> HashMap<u32, BitSet> {
    let mut open: Vec<u32> = Vec::new();
    let mut sets: HashMap<u32, BitSet> = HashMap::new();
    for op in &s.ops {
        match op.operator {
            Operator::Loop { .. } => {
                sets.insert(op.construct, BitSet::new(s.locals.len()));
                open.push(op.construct);
            }
            Operator::End if op.construct != NONE && open.last() == Some(&op.construct) => {
                open.pop();
                if let Some(outer) = open.last() {
                    let inner = sets[&op.construct].clone();
                    sets.get_mut(outer).expect("open").union(&inner);
                }
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if let Some(inner) = open.last() {
                    sets.get_mut(inner).expect("open").insert(local_index);
                }
            }
            _ => {}
        }
    }
    sets
}

/// How a frame stores a type; `None` where it cannot.
pub fn slot_type(m: &Module<'_>, ty: ValType) -> Option<SlotType> {
    Some(match ty {
        ValType::I32 => SlotType::I32,
        ValType::I64 => SlotType::I64,
        ValType::F32 => SlotType::F32,
        ValType::F64 => SlotType::F64,
        ValType::V128 => SlotType::V128,
        ValType::Ref(r) if is_function_ref(m, r) => SlotType::Func,
        ValType::Ref(r) if r.heap_type() == RefType::EXNREF.heap_type() => return exn_slot(m),
        ValType::Ref(_) => return None,
    })
}

/// How a frame stores an exception; `None` where there is no tag, or one whose exceptions carry what no frame
/// can store.
pub fn exn_slot(m: &Module<'_>) -> Option<SlotType> {
    let sizes = m.tags.iter().map(|tag| Some(tag_values(m, *tag)?.iter().map(|ty| ty.size()).sum::<u32>()));
    let largest = sizes.collect::<Option<Vec<u32>>>()?.into_iter().max()?;
    Some(SlotType::Exn(4 + largest))
}

/// How a frame stores the values of an exception, given its tag's type.
pub fn tag_values(m: &Module<'_>, ty: u32) -> Option<Vec<SlotType>> {
    let params = m.types[ty as usize].as_ref().expect("validated").params();
    params
        .iter()
        .map(|ty| match *ty {
            // An exception within another one would need room without end.
            ValType::Ref(r) if !is_function_ref(m, r) => None,
            other => slot_type(m, other),
        })
        .collect()
}

fn describe(ty: ValType) -> String {
    match ty {
        ValType::Ref(r) if r == RefType::EXTERNREF => "an externref".into(),
        ValType::Ref(r) if r == RefType::EXNREF || r == RefType::EXN => {
            "an exception (exnref) where some carry a reference other than a function".into()
        }
        ValType::Ref(r) => format!("a reference of type {r}"),
        other => format!("a value of type {other}"),
    }
}
