//! Third pass over a function: writes it anew with polls, saves, and the way back in.
//!
//! A function that may capture is emitted once, in a shape that a resumed frame can enter in the middle:
//!
//! ```text
//! block $unwind
//!   block $body
//!     block ... block                 ;; hoisted: one label per landing of this region
//!       if rewinding                  ;; cold
//!         restore locals; find out the point
//!         innermost point: clear `rewinding`, br to its landing
//!         call: call the next frame's function, take its results, br past the call
//!         point inside a loop: br before the loop, whose own poll dispatches further
//!       end
//!       code ... call g  end $resumed ;; landing: as if g had just returned
//!       if unwinding                  ;; cold
//!         save live locals; br $unwind
//!       end
//!       ...
//!       end $before_loop
//!       loop
//!         if poll                     ;; cold
//!           if rewinding  dispatch to landings inside  end
//!           save live locals; br $unwind
//!         end
//! ...
//! end $unwind: write the frame's header, return a dummy
//! ```
//! Blocks and ifs that are entered in the middle have their start moved to the region's top, which
//! costs nothing (a label has no code); only loops and try regions need to dispatch again. The hot path
//! thus carries the polls and checks, and nothing of the resume but one predictable test per entry.

use crate::abi;
use crate::callgraph::CallGraph;
use crate::meta::{PointKind, SlotType};
use crate::parse::{Body, Module};
use crate::plan::{self, Label, Plan, Temp};
use crate::scan::{self, Kind, NONE, Op, Scan};
use crate::strip::{Bound, Compare, Strip};
use crate::transform::{Error, Options, Refusal};
use std::collections::HashMap;
use wasm_encoder::{BlockType, Encode, Instruction as I, MemArg};
use wasmparser::{Catch, Operator, ValType};

/// Functions added to every module, after its own.
#[derive(Clone, Copy)]
pub struct Helpers {
    /// `(header: i64, size: i32)`: completes a frame.
    pub pushed: u32,
    /// `(base: i32, size: i32)`: writes a frame that was read back, and not touched since, once more.
    pub pushed_again: u32,
    /// `(funcref) -> i32`.
    pub save_ref: u32,
    /// `(i32) -> funcref`.
    pub load_ref: u32,
    pub drop_segments: u32,
    /// Per class of results: `(size: i32) -> results`, takes a frame off and calls the next one's function.
    pub resume_first: u32,
    /// Per function that captures: its entry for a resume, `() -> results`.
    pub thunk_first: u32,
}

/// Helpers that every module gets; after them come those per class and per function.
pub const FIXED_HELPERS: u32 = 5;

/// Globals added to every module, after its own.
#[derive(Clone, Copy)]
pub struct Globals {
    pub first: u32,
}

impl Globals {
    /// Their exports, in order.
    pub const NAMES: [&'static str; 7] =
        [abi::UNWINDING, abi::REWINDING, abi::SP, abi::LIMIT, abi::REFS, abi::COUNTDOWN, abi::REWIND_SP];

    pub fn unwinding(self) -> u32 {
        self.first
    }
    pub fn rewinding(self) -> u32 {
        self.first + 1
    }
    pub fn sp(self) -> u32 {
        self.first + 2
    }
    pub fn limit(self) -> u32 {
        self.first + 3
    }
    pub fn refs(self) -> u32 {
        self.first + 4
    }
    pub fn countdown(self) -> u32 {
        self.first + 5
    }
    pub fn rewind_sp(self) -> u32 {
        self.first + 6
    }
}

/// What all functions' rewriting shares.
pub struct Context<'m> {
    pub module: &'m Module<'m>,
    pub graph: &'m CallGraph,
    pub options: &'m Options,
    /// Result types of each class.
    pub classes: Vec<Vec<ValType>>,
    pub class_of: HashMap<Vec<ValType>, u32>,
    pub polls: u32,
    pub stack: u32,
    pub rewind: u32,
    pub globals: Globals,
    pub resume_table: u32,
    pub functions_table: u32,
    pub refs_table: u32,
    pub helpers: Helpers,
    /// Function types to append, as (params, results).
    pub new_types: Vec<(Vec<ValType>, Vec<ValType>)>,
    stub_types: HashMap<Vec<ValType>, u32>,
    /// Resume slot by function index.
    pub slots: HashMap<u32, u32>,
}

/// A function ready to be put in a module.
#[derive(Default)]
pub struct Rewritten {
    pub index: u32,
    /// The code entry without its size.
    pub code: Vec<u8>,
    /// Offsets in `code` of branches that are hardly ever taken.
    pub unlikely: Vec<u32>,
    pub meta: Option<crate::meta::Function>,
    pub refusals: Vec<Refusal>,
}

impl<'m> Context<'m> {
    pub fn new(module: &'m Module<'m>, graph: &'m CallGraph, options: &'m Options) -> Self {
        let (mut classes, mut class_of) = (Vec::new(), HashMap::new());
        let mut intern = |results: &[ValType]| {
            *class_of.entry(results.to_vec()).or_insert_with(|| {
                classes.push(results.to_vec());
                classes.len() as u32 - 1
            })
        };
        for ty in module.types.iter().flatten() {
            intern(ty.results());
        }
        let imports = module.imported_functions();
        let mut slots = HashMap::new();
        for f in imports..module.functions.len() as u32 {
            if graph.captures[f as usize] {
                slots.insert(f, slots.len() as u32);
            }
        }
        let first = module.functions.len() as u32;
        let helpers = Helpers {
            pushed: first,
            pushed_again: first + 1,
            save_ref: first + 2,
            load_ref: first + 3,
            drop_segments: first + 4,
            resume_first: first + FIXED_HELPERS,
            thunk_first: first + FIXED_HELPERS + classes.len() as u32,
        };
        let mut c = Context {
            module,
            graph,
            options,
            classes,
            class_of,
            polls: module.memories.len() as u32,
            stack: module.memories.len() as u32 + 1,
            rewind: module.memories.len() as u32 + 2,
            globals: Globals { first: module.globals.len() as u32 },
            resume_table: module.tables.len() as u32,
            functions_table: module.tables.len() as u32 + 1,
            refs_table: module.tables.len() as u32 + 2,
            helpers,
            new_types: Vec::new(),
            stub_types: HashMap::new(),
            slots,
        };
        let funcref = ValType::Ref(wasmparser::RefType::FUNCREF);
        c.new_types.extend([
            (vec![ValType::I64, ValType::I32], vec![]),
            (vec![ValType::I32, ValType::I32], vec![]),
            (vec![funcref], vec![ValType::I32]),
            (vec![ValType::I32], vec![funcref]),
            (vec![], vec![]),
        ]);
        for class in c.classes.clone() {
            c.new_types.push((vec![ValType::I32], class));
        }
        for class in c.classes.clone() {
            c.new_types.push((vec![], class));
        }
        for tag in module.tags.clone() {
            let params = module.types[tag as usize].as_ref().expect("validated").params().to_vec();
            let mut with_ref = params.clone();
            with_ref.push(ValType::Ref(wasmparser::RefType::EXN));
            for list in [params, with_ref] {
                if list.len() > 1 && !c.stub_types.contains_key(&list) {
                    c.stub_types.insert(list.clone(), module.types.len() as u32 + c.new_types.len() as u32);
                    c.new_types.push((vec![], list));
                }
            }
        }
        c
    }

    /// Type index of an added function.
    pub fn added_type(&self, n: usize) -> u32 {
        (self.module.types.len() + n) as u32
    }

    /// Type index of `[] -> class`.
    pub fn class_type(&self, class: u32) -> u32 {
        self.added_type(FIXED_HELPERS as usize + self.classes.len() + class as usize)
    }

    fn block_type(&self, results: &[ValType]) -> BlockType {
        match results {
            [] => BlockType::Empty,
            [one] => BlockType::Result(val_type(*one)),
            more => BlockType::FunctionType(self.stub_types[more]),
        }
    }
}

/// The encoder's form of a type.
pub fn val_type(ty: ValType) -> wasm_encoder::ValType {
    ty.try_into().expect("types of operands name types of this module")
}

/// Copies a function through.
pub fn keep(body: Body<'_>) -> Result<Rewritten, Error> {
    let index = body.validate.index;
    Ok(Rewritten { index, code: body.body.as_bytes().to_vec(), ..Rewritten::default() })
}

/// Rewrites a function that may capture.
pub fn rewrite(cx: &Context<'_>, body: Body<'_>) -> Result<Rewritten, Error> {
    let index = body.validate.index;
    let scan = scan::scan(cx.module, cx.graph, body)?;
    let plan = plan::plan(cx.module, &scan, index, cx.options.strip_mine);
    if !plan.refusals.is_empty() {
        return Ok(Rewritten { index, refusals: plan.refusals, ..Rewritten::default() });
    }
    let mut e = Emitter {
        cx,
        s: &scan,
        p: plan,
        out: Vec::with_capacity(scan.ops.len() * 6),
        labels: Vec::new(),
        depth: HashMap::new(),
        unlikely: Vec::new(),
        open: vec![0],
        fresh: 0,
        loops: 0,
        refusals: Vec::new(),
        function: index,
    };
    e.function();
    Ok(e.finish())
}

/// How a region's dispatch gets to a point.
#[derive(PartialEq, Clone, Copy)]
enum Way {
    Innermost,
    /// By calling a function with results of this class.
    Call(u32),
    /// The same for one point inside a try: what the callee throws is caught by code that needs the
    /// locals, so they are restored before the call.
    CallInTry(u32),
    /// Inside this loop or try.
    Towards(u32),
}

struct Emitter<'a, 'm> {
    cx: &'a Context<'m>,
    s: &'a Scan<'a>,
    p: Plan,
    out: Vec<u8>,
    /// Open labels with the place where a hoisted one closes.
    labels: Vec<(Label, u32)>,
    depth: HashMap<Label, u32>,
    unlikely: Vec<u32>,
    /// Open constructs of the original function.
    open: Vec<u32>,
    fresh: u32,
    loops: u32,
    refusals: Vec<Refusal>,
    function: u32,
}

const NOT_HOISTED: u32 = u32::MAX;

impl Emitter<'_, '_> {
    fn i(&mut self, instruction: I<'_>) {
        instruction.encode(&mut self.out);
    }

    fn push_label(&mut self, label: Label, at: u32) {
        self.depth.insert(label, self.labels.len() as u32);
        self.labels.push((label, at));
    }

    fn block(&mut self, label: Label) {
        self.i(I::Block(BlockType::Empty));
        self.push_label(label, NOT_HOISTED);
    }

    fn end(&mut self) -> Label {
        self.i(I::End);
        let (label, _) = self.labels.pop().expect("balanced");
        self.depth.remove(&label);
        label
    }

    fn end_of(&mut self, label: Label) {
        let closed = self.end();
        debug_assert_eq!(closed, label);
    }

    fn fresh(&mut self) -> Label {
        self.fresh += 1;
        Label::Fresh(self.fresh)
    }

    /// `if`, marked as hardly ever taken.
    fn unlikely_if(&mut self) -> Label {
        self.unlikely.push(self.out.len() as u32);
        self.i(I::If(BlockType::Empty));
        let label = self.fresh();
        self.push_label(label, NOT_HOISTED);
        label
    }

    fn to(&self, label: Label) -> u32 {
        self.labels.len() as u32 - 1 - self.depth[&label]
    }

    fn br(&mut self, label: Label) {
        let d = self.to(label);
        self.i(I::Br(d));
    }

    fn br_if(&mut self, label: Label) {
        let d = self.to(label);
        self.i(I::BrIf(d));
    }

    fn br_table(&mut self, labels: &[Label]) {
        let depths: Vec<u32> = labels.iter().map(|l| self.to(*l)).collect();
        let (default, table) = depths.split_last().expect("at least one target");
        self.i(I::BrTable(table.into(), *default));
    }

    fn get(&mut self, temp: Temp) {
        let l = self.p.locals.index(temp);
        self.i(I::LocalGet(l));
        if let Temp::Depth(_, t)
        | Temp::Param(_, _, t)
        | Temp::Label(_, _, t)
        | Temp::Arg(_, t)
        | Temp::Result(_, t)
        | Temp::Scratch(t) = temp
            && matches!(t, ValType::Ref(r) if !r.is_nullable())
        {
            self.i(I::RefAsNonNull);
        }
    }

    fn set(&mut self, temp: Temp) {
        let l = self.p.locals.index(temp);
        self.i(I::LocalSet(l));
    }

    fn get_all(&mut self, types: &[ValType], temp: impl Fn(u32, ValType) -> Temp) {
        for (k, t) in types.iter().enumerate() {
            self.get(temp(k as u32, *t));
        }
    }

    fn set_all(&mut self, types: &[ValType], temp: impl Fn(u32, ValType) -> Temp) {
        for (k, t) in types.iter().enumerate().rev() {
            self.set(temp(k as u32, *t));
        }
    }

    /// A place in the stack memory.
    fn frame(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 0, memory_index: self.cx.stack }
    }

    /// A place in a frame that is read back.
    fn saved(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 0, memory_index: self.cx.rewind }
    }

    /// A place in the poll memory.
    fn poll(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 2, memory_index: self.cx.polls }
    }

    fn load_poll(&mut self, offset: u32) {
        self.i(I::I32Const(0));
        let at = self.poll(offset);
        self.i(I::I32Load(at));
    }

    fn global(&mut self, index: impl FnOnce(Globals) -> u32) {
        let index = index(self.cx.globals);
        self.i(I::GlobalGet(index));
    }

    fn set_global(&mut self, index: impl FnOnce(Globals) -> u32) {
        let index = index(self.cx.globals);
        self.i(I::GlobalSet(index));
    }

    /// Closes the hoisted labels that end at this place.
    fn close_at(&mut self, at: u32) {
        while matches!(self.labels.last(), Some((_, a)) if *a == at) {
            self.end();
        }
    }

    fn function(&mut self) {
        let s = self.s;
        let movable = !s.points.is_empty();
        if movable {
            for t in s.ty.params().iter().filter(|t| dummy(**t).is_none()) {
                self.refuse(format!("takes a {t}, which has no null to call it with for a resume"));
            }
            self.block(Label::Dummies);
            self.block(Label::Unwind);
        }
        self.block(Label::Construct(0));
        if movable {
            self.open_region(0);
            self.enter_function();
        }
        let mut i = 0;
        while i < s.ops.len() {
            i = self.op(i as u32) as usize;
        }
        let results = s.ty.results();
        self.get_all(results, |k, t| Temp::Label(0, k, t));
        if movable {
            self.i(I::Return);
            self.end_of(Label::Unwind);
            self.i(I::I64Const(i64::from(self.cx.slots[&self.function])));
            self.get(Temp::Point);
            self.i(I::I64ExtendI32U);
            self.i(I::I64Const(32));
            self.i(I::I64Shl);
            self.i(I::I64Or);
            self.i(I::I32Const(self.p.frame_size as i32));
            self.i(I::Call(self.cx.helpers.pushed));
            self.end_of(Label::Dummies);
            for t in results {
                self.dummy(*t);
            }
        }
        self.i(I::End);
        debug_assert!(self.labels.is_empty());
    }

    fn dummy(&mut self, ty: ValType) {
        match dummy(ty) {
            Some(instruction) => self.i(instruction),
            None => {
                self.i(I::Unreachable);
                self.refuse(format!("returns a {ty}, which has no null to return while its stack is written out"));
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        self.refusals.push(Refusal { place: self.cx.module.name_of(self.function), reason });
    }

    fn open_region(&mut self, region: u32) {
        for h in self.p.hoisted.remove(&region).unwrap_or_default() {
            self.i(I::Block(BlockType::Empty));
            self.push_label(h.label, h.at);
        }
    }

    fn enter_function(&mut self) {
        let entry = self.s.points.first().filter(|p| p.kind == PointKind::Entry).is_some();
        self.block(Label::Entered);
        if entry {
            self.load_poll(abi::ENTRY);
        } else {
            self.global(Globals::rewinding);
        }
        let cold = self.unlikely_if();
        if entry {
            self.global(Globals::rewinding);
            let inner = self.unlikely_if();
            self.dispatch(0);
            self.end_of(inner);
            self.capture(0);
        } else {
            self.dispatch(0);
        }
        self.end_of(cold);
        self.end_of(Label::Entered);
    }

    /// In a poll's cold path: captures, unless a test's countdown lets this poll pass.
    fn capture(&mut self, point: u32) {
        if !self.cx.options.countdown {
            self.save(point);
            return;
        }
        self.global(Globals::countdown);
        self.i(I::I32Eqz);
        self.i(I::If(BlockType::Empty));
        let label = self.fresh();
        self.push_label(label, NOT_HOISTED);
        self.save(point);
        self.end_of(label);
        self.global(Globals::countdown);
        self.i(I::I32Const(1));
        self.i(I::I32Sub);
        self.set_global(Globals::countdown);
    }

    /// Writes the live locals of a point into a new frame and leaves.
    fn save(&mut self, point: u32) {
        let live = std::mem::take(&mut self.p.live[point as usize]);
        if !live.is_empty() {
            self.global(Globals::sp);
            self.set(Temp::Base);
        }
        for slot in &live {
            let slot = self.p.slots[*slot as usize];
            self.get(Temp::Base);
            self.i(I::LocalGet(slot.local));
            let at = self.frame(slot.offset);
            match slot.slot {
                SlotType::I32 => self.i(I::I32Store(at)),
                SlotType::I64 => self.i(I::I64Store(at)),
                SlotType::F32 => self.i(I::F32Store(at)),
                SlotType::F64 => self.i(I::F64Store(at)),
                SlotType::V128 => self.i(I::V128Store(at)),
                SlotType::Func => {
                    self.i(I::Call(self.cx.helpers.save_ref));
                    self.i(I::I32Store(at));
                }
            }
        }
        self.p.live[point as usize] = live;
        self.i(I::I32Const(point as i32));
        self.set(Temp::Point);
        self.br(Label::Unwind);
    }

    /// In a region's cold path while rewinding: goes to the point, or towards it, by a pad that restores
    /// the locals it needs.
    ///
    /// The callee of a call point runs before anything is restored: what lives across a call lives in
    /// memory, and would do so on the hot path too (measured: SQLite's interpreter loop 3.8 times slower).
    fn dispatch(&mut self, region: u32) {
        let Some(range) = self.p.points.get(&region).cloned() else { return };
        let size = self.p.frame_size;
        self.global(Globals::rewind_sp);
        self.i(I::I32Const(size as i32));
        self.i(I::I32Sub);
        self.set(Temp::Base);
        self.load_point(range.start);
        let ways: Vec<Way> = range.clone().map(|q| self.way(region, q)).collect();
        let mut groups: Vec<Way> = Vec::new();
        for w in &ways {
            if !groups.contains(w) {
                groups.push(*w);
            }
        }
        let labels: Vec<Label> = groups.iter().map(|_| self.fresh()).collect();
        for label in labels.iter().rev() {
            self.block(*label);
        }
        let group_of = |w: &Way| groups.iter().position(|g| g == w).expect("grouped");
        let targets: Vec<Label> = ways.iter().map(|w| labels[group_of(w)]).collect();
        self.choose(0, &targets);
        for (group, label) in groups.iter().zip(&labels) {
            self.end_of(*label);
            let members: Vec<u32> = (range.clone()).filter(|q| ways[(q - range.start) as usize] == *group).collect();
            match group {
                Way::Towards(child) => {
                    let slots = self.p.towards.remove(&(region, *child)).unwrap_or_default();
                    self.restore(&slots);
                    self.br(Label::Before(*child));
                }
                Way::Innermost => {
                    self.resumed();
                    self.pads(region, range.start, &members);
                }
                Way::Call(class) => {
                    self.resume_callee(*class);
                    if members.len() > 1 {
                        self.load_point(range.start);
                    }
                    self.pads(region, range.start, &members);
                }
                Way::CallInTry(q) => {
                    let slots = self.p.at_home.remove(&(region, *q)).unwrap_or_default();
                    self.restore(&slots);
                    self.resume_callee(self.cx.class_of[&self.s.points[*q as usize].results]);
                    self.br(Label::Resumed(*q));
                }
            }
        }
    }

    /// Calls the function of the next frame in a call's place, and takes its results.
    fn resume_callee(&mut self, class: u32) {
        let size = self.p.frame_size as i32;
        self.i(I::I32Const(size));
        self.i(I::Call(self.cx.helpers.resume_first + class));
        let results = self.cx.classes[class as usize].clone();
        self.set_all(&results, Temp::Result);
        self.global(Globals::unwinding);
        let again = self.unlikely_if();
        self.get(Temp::Base);
        self.i(I::I32Const(size));
        self.i(I::Call(self.cx.helpers.pushed_again));
        self.br(Label::Dummies);
        self.end_of(again);
    }

    /// Reads the point of the frame at `Base`, relative to a first one.
    fn load_point(&mut self, first: u32) {
        self.get(Temp::Base);
        let at = self.saved(self.p.frame_size - 4);
        self.i(I::I32Load(at));
        if first != 0 {
            self.i(I::I32Const(first as i32));
            self.i(I::I32Sub);
        }
        self.set(Temp::Point);
    }

    /// How a region's dispatch gets to a point.
    fn way(&self, region: u32, q: u32) -> Way {
        let point = &self.s.points[q as usize];
        let mut home = self.s.constructs[point.construct as usize].region;
        let mut child = NONE;
        while home != region {
            child = home;
            let parent = self.s.constructs[home as usize].parent;
            home = self.s.constructs[parent as usize].region;
        }
        if child != NONE {
            Way::Towards(child)
        } else if point.kind.is_innermost() {
            Way::Innermost
        } else if self.s.in_try(point.construct) {
            Way::CallInTry(q)
        } else {
            Way::Call(self.cx.class_of[&point.results])
        }
    }

    /// One pad per point: restores its locals and goes to its landing.
    fn pads(&mut self, region: u32, base: u32, members: &[u32]) {
        let pads: Vec<Label> = members.iter().map(|_| self.fresh()).collect();
        for pad in pads.iter().rev() {
            self.block(*pad);
        }
        // Places of the table that belong to other groups are never taken; any target will do.
        let (first, last) = (members[0], members[members.len() - 1]);
        let table: Vec<Label> = (first..=last).map(|q| pads[members.partition_point(|m| *m < q)]).collect();
        self.choose(first - base, &table);
        for (q, pad) in members.iter().zip(&pads) {
            self.end_of(*pad);
            let slots = self.p.at_home.remove(&(region, *q)).unwrap_or_default();
            self.restore(&slots);
            let landing = match self.s.points[*q as usize].kind {
                PointKind::Loop => {
                    let c = self.s.constructs.iter().position(|c| c.header == *q);
                    Label::Before(c.expect("a header belongs to a loop") as u32)
                }
                PointKind::Entry => Label::Entered,
                _ => Label::Resumed(*q),
            };
            self.br(landing);
        }
    }

    fn restore(&mut self, slots: &[u32]) {
        for slot in slots {
            let slot = self.p.slots[*slot as usize];
            self.get(Temp::Base);
            let at = self.saved(slot.offset);
            match slot.slot {
                SlotType::I32 => self.i(I::I32Load(at)),
                SlotType::I64 => self.i(I::I64Load(at)),
                SlotType::F32 => self.i(I::F32Load(at)),
                SlotType::F64 => self.i(I::F64Load(at)),
                SlotType::V128 => self.i(I::V128Load(at)),
                SlotType::Func => {
                    self.i(I::I32Load(at));
                    self.i(I::Call(self.cx.helpers.load_ref));
                    if let ValType::Ref(r) = slot.ty
                        && r != wasmparser::RefType::FUNCREF
                    {
                        let heap = wasm_encoder::HeapType::try_from(r.heap_type()).expect("a type of this module");
                        self.i(I::RefCastNullable(heap));
                    }
                }
            }
            self.i(I::LocalSet(slot.local));
        }
    }

    /// Takes the innermost frame off and goes back to normal running. Written out in place and without
    /// a call: wasmtime's calls keep no registers, and with one here the loop's variables, restored just
    /// before, would live in memory for the whole loop (measured: mandelbrot 1.8, cg 2.2 times slower).
    fn resumed(&mut self) {
        self.i(I::I32Const(0));
        self.set_global(Globals::rewinding);
        if self.cx.options.countdown {
            return;
        }
        for offset in (0..abi::FENCE).step_by(8) {
            self.i(I::I32Const(0));
            self.i(I::I64Const(0));
            let at = self.poll(offset);
            self.i(I::I64Store(at));
        }
    }

    /// Branches to `targets[point - first]`.
    fn choose(&mut self, first: u32, targets: &[Label]) {
        if targets.iter().all(|t| *t == targets[0]) {
            self.br(targets[0]);
            return;
        }
        self.get(Temp::Point);
        if first != 0 {
            self.i(I::I32Const(first as i32));
            self.i(I::I32Sub);
        }
        self.br_table(targets);
    }

    /// Emits one operator; returns the next one's index.
    fn op(&mut self, index: u32) -> u32 {
        let op = &self.s.ops[index as usize];
        let point = self.point_at(index);
        match &op.operator {
            Operator::Block { .. } => self.start_block(op),
            Operator::If { .. } => self.start_if(op),
            Operator::Loop { .. } => self.start_loop(op, index),
            Operator::TryTable { try_table } => self.start_try(op, index, &try_table.catches),
            Operator::Else => self.else_(op, index),
            Operator::End => self.end_op(op, index),
            Operator::Br { relative_depth } => {
                let (label, types, level) = self.target(*relative_depth);
                self.set_all(&types, |k, t| Temp::Label(level, k, t));
                self.br(label);
            }
            Operator::BrIf { relative_depth } => {
                let (label, types, level) = self.target(*relative_depth);
                if !types.is_empty() {
                    self.set(Temp::Scratch(ValType::I32));
                    self.set_all(&types, |k, t| Temp::Label(level, k, t));
                    self.get_all(&types, |k, t| Temp::Label(level, k, t));
                    self.get(Temp::Scratch(ValType::I32));
                }
                self.br_if(label);
            }
            Operator::BrTable { targets } => {
                let depths: Vec<u32> =
                    targets.targets().chain([Ok(targets.default())]).map(|t| t.expect("validated")).collect();
                let all: Vec<_> = depths.iter().map(|d| self.target(*d)).collect();
                let (_, types, level) = all[0].clone();
                if !types.is_empty() {
                    self.set(Temp::Scratch(ValType::I32));
                    self.set_all(&types, |k, t| Temp::Label(level, k, t));
                    for (_, other, other_level) in &all[1..] {
                        if (other, other_level) != (&types, &level) {
                            self.get_all(&types, |k, t| Temp::Label(level, k, t));
                            self.set_all(other, |k, t| Temp::Label(*other_level, k, t));
                        }
                    }
                    self.get(Temp::Scratch(ValType::I32));
                }
                let labels: Vec<Label> = all.into_iter().map(|(l, ..)| l).collect();
                self.br_table(&labels);
            }
            Operator::BrOnNull { relative_depth } | Operator::BrOnNonNull { relative_depth } => {
                self.br_on_null(op, *relative_depth);
            }
            Operator::BrOnCast { .. } | Operator::BrOnCastFail { .. } => {
                self.refuse("branches on a cast of a reference, which exists only on this host".into());
                self.i(I::Unreachable);
            }
            Operator::Call { .. }
            | Operator::ReturnCall { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
                if point.is_some() =>
            {
                self.call(op, index, point.expect("checked"));
            }
            Operator::LocalGet { local_index } | Operator::LocalTee { local_index } => {
                self.copy(op);
                if self.made_nullable(*local_index) {
                    self.i(I::RefAsNonNull);
                }
            }
            Operator::DataDrop { data_index } => self.drop_segment(op, *data_index),
            Operator::ElemDrop { elem_index } => self.drop_segment(op, self.cx.module.data_segments + elem_index),
            _ => self.copy(op),
        }
        // A strip-mined loop's tail is emitted with its end.
        let inner = *self.open.last().unwrap_or(&0);
        match self.p.strips.get(&inner) {
            Some(strip) if index + 1 == strip.tail => self.s.constructs[inner as usize].end,
            _ => index + 1,
        }
    }

    fn point_at(&self, index: u32) -> Option<u32> {
        let points = &self.s.points;
        let mut at = points.partition_point(|p| p.op < index);
        if points.get(at).is_some_and(|p| p.op == index && p.kind == PointKind::Entry) {
            at += 1;
        }
        points.get(at).is_some_and(|p| p.op == index).then_some(at as u32)
    }

    /// Copies an operator's bytes.
    fn copy(&mut self, op: &Op<'_>) {
        self.out.extend_from_slice(&self.cx.module.bytes[op.start as usize..op.end as usize]);
    }

    fn made_nullable(&self, local: u32) -> bool {
        local as usize >= self.s.params && matches!(self.s.locals[local as usize], ValType::Ref(r) if !r.is_nullable())
    }

    fn drop_segment(&mut self, op: &Op<'_>, flag: u32) {
        self.i(I::I32Const(0));
        self.i(I::I32Const(1));
        let at = self.frame(abi::DROPPED + flag);
        self.i(I::I32Store8(at));
        self.copy(op);
    }

    /// The label, value types and nesting depth that a branch goes to.
    fn target(&self, depth: u32) -> (Label, Vec<ValType>, u32) {
        let id = self.open[self.open.len() - 1 - depth as usize];
        let c = &self.s.constructs[id as usize];
        let types = if c.kind == Kind::Loop { &c.params } else { &c.results };
        (Label::Construct(id), types.clone(), c.level)
    }

    /// Operands of the surrounding construct that are on the stack under a construct or call: their
    /// types and the height of the first.
    fn own<'t>(&self, stack: &'t [ValType]) -> (&'t [ValType], u32) {
        let parent = &self.s.constructs[*self.open.last().expect("inside") as usize];
        (&stack[parent.under.len()..], parent.under.len() as u32)
    }

    fn start_block(&mut self, op: &Op<'_>) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        self.set_all(&c.params, |k, t| Temp::Param(level, k, t));
        if c.landing {
            let (own, base) = self.own(&c.under);
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
        } else {
            self.block(Label::Construct(op.construct));
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    fn start_if(&mut self, op: &Op<'_>) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        let (own, base) = self.own(&c.under);
        let put_away = !c.params.is_empty() || (c.landing && !own.is_empty());
        if put_away {
            self.set(Temp::Scratch(ValType::I32));
            self.set_all(&c.params, |k, t| Temp::Param(level, k, t));
            if c.landing {
                self.set_all(own, |k, t| Temp::Depth(base + k, t));
            }
            if c.else_op == NONE {
                // Without an else, the parameters are the results.
                self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
                self.set_all(&c.params, |k, t| Temp::Label(level, k, t));
            }
            self.get(Temp::Scratch(ValType::I32));
        }
        if c.landing {
            self.i(I::I32Eqz);
            let has_else = c.else_op != NONE;
            self.br_if(if has_else { Label::Else(op.construct) } else { Label::Construct(op.construct) });
        } else {
            self.i(I::If(BlockType::Empty));
            self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    fn else_(&mut self, op: &Op<'_>, index: u32) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        if op.falls_in {
            self.set_all(&c.results, |k, t| Temp::Label(level, k, t));
        }
        if c.landing {
            if op.falls_in {
                self.br(Label::Construct(op.construct));
            }
            self.close_at(index * 4 + 1);
        } else {
            self.i(I::Else);
        }
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    fn start_loop(&mut self, op: &Op<'_>, index: u32) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        let (own, base) = self.own(&c.under);
        self.set_all(&c.params, |k, t| Temp::Label(level, k, t));
        self.set_all(own, |k, t| Temp::Depth(base + k, t));
        self.close_at(index * 4);
        let poll = abi::POLLS + 4 * (self.loops % abi::POLL_WORDS);
        if self.loops >= abi::POLL_WORDS {
            // This loop shares its word with an earlier one: a store between keeps their loads apart.
            self.i(I::I32Const(0));
            self.i(I::I32Const(0));
            let at = self.poll(abi::FENCE);
            self.i(I::I32Store(at));
        }
        self.loops += 1;
        let strip = self.p.strips.get(&op.construct).copied();
        let label = if strip.is_some() { self.fresh() } else { Label::Construct(op.construct) };
        self.i(I::Loop(BlockType::Empty));
        self.push_label(label, NOT_HOISTED);
        self.open_region(op.construct);
        self.load_poll(poll);
        let cold = self.unlikely_if();
        if c.landing {
            self.global(Globals::rewinding);
            let inner = self.unlikely_if();
            self.dispatch(op.construct);
            self.end_of(inner);
        }
        self.capture(c.header);
        self.end_of(cold);
        if let Some(strip) = strip {
            self.chunk(strip);
            self.i(I::Loop(BlockType::Empty));
            self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Label(level, k, t));
    }

    fn bound(&mut self, bound: Bound) {
        match bound {
            Bound::Const(c) => self.i(I::I32Const(c)),
            Bound::Local(l) => self.i(I::LocalGet(l)),
        }
    }

    fn compare(&mut self, compare: Compare) {
        self.i(match compare {
            Compare::Ne => I::I32Ne,
            Compare::LtS => I::I32LtS,
            Compare::LtU => I::I32LtU,
            Compare::GtS => I::I32GtS,
            Compare::GtU => I::I32GtU,
        });
    }

    /// Sets the bound of the next chunk.
    fn chunk(&mut self, s: Strip) {
        let span = s.chunk * s.step.unsigned_abs();
        let distance = |e: &mut Self| {
            if s.step > 0 {
                e.bound(s.bound);
                e.i(I::LocalGet(s.induction));
            } else {
                e.i(I::LocalGet(s.induction));
                e.bound(s.bound);
            }
            e.i(I::I32Sub);
        };
        self.i(I::LocalGet(s.induction));
        self.i(I::I32Const((s.chunk as i32).wrapping_mul(s.step)));
        self.i(I::I32Add);
        self.bound(s.bound);
        distance(self);
        if s.compare == Compare::Ne {
            // Distance 0 is a full turn, as the body runs before the comparison.
            self.i(I::I32Const(1));
            self.i(I::I32Sub);
            self.i(I::I32Const(span as i32));
            self.i(I::I32GeU);
            if s.step.unsigned_abs() > 1 {
                distance(self);
                self.i(I::I32Const(s.step.unsigned_abs() as i32 - 1));
                self.i(I::I32And);
                self.i(I::I32Or);
            }
        } else {
            self.i(I::I32Const(span as i32));
            self.i(I::I32GtU);
            self.i(I::LocalGet(s.induction));
            self.bound(s.bound);
            self.compare(s.compare);
            self.i(I::I32And);
        }
        self.i(I::Select);
        self.set(Temp::Limit);
    }

    fn start_try(&mut self, op: &Op<'_>, index: u32, catches: &[Catch]) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        self.set_all(&c.params, |k, t| Temp::Param(level, k, t));
        if c.landing {
            let (own, base) = self.own(&c.under);
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
            self.close_at(index * 4);
        }
        // One block per catch takes the caught values; its code passes them on to the catch's label.
        let after = self.fresh();
        self.block(after);
        let mut stubs = Vec::new();
        for catch in catches.iter().rev() {
            let ty = self.cx.block_type(&self.caught(catch));
            self.i(I::Block(ty));
            let label = self.fresh();
            self.push_label(label, NOT_HOISTED);
            stubs.push(label);
        }
        stubs.reverse();
        let encoded: Vec<wasm_encoder::Catch> = catches
            .iter()
            .zip(&stubs)
            .map(|(catch, stub)| {
                let label = self.to(*stub);
                match catch {
                    Catch::One { tag, .. } => wasm_encoder::Catch::One { tag: *tag, label },
                    Catch::OneRef { tag, .. } => wasm_encoder::Catch::OneRef { tag: *tag, label },
                    Catch::All { .. } => wasm_encoder::Catch::All { label },
                    Catch::AllRef { .. } => wasm_encoder::Catch::AllRef { label },
                }
            })
            .collect();
        self.i(I::TryTable(BlockType::Empty, encoded.into()));
        self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        self.open_region(op.construct);
        if c.landing {
            self.global(Globals::rewinding);
            let cold = self.unlikely_if();
            self.dispatch(op.construct);
            self.end_of(cold);
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    fn caught(&self, catch: &Catch) -> Vec<ValType> {
        let (tag, reference) = match catch {
            Catch::One { tag, .. } => (Some(*tag), false),
            Catch::OneRef { tag, .. } => (Some(*tag), true),
            Catch::All { .. } => (None, false),
            Catch::AllRef { .. } => (None, true),
        };
        let mut types = tag.map_or_else(Vec::new, |t| {
            let ty = self.cx.module.tags[t as usize];
            self.cx.module.types[ty as usize].as_ref().expect("validated").params().to_vec()
        });
        if reference {
            types.push(ValType::Ref(wasmparser::RefType::EXN));
        }
        types
    }

    fn end_op(&mut self, op: &Op<'_>, index: u32) {
        let id = op.construct;
        let c = &self.s.constructs[id as usize];
        let level = c.level;
        let strip = self.p.strips.get(&id).copied();
        if let Some(strip) = strip {
            self.get(Temp::Limit);
            self.compare(strip.compare);
            self.br_if(Label::Construct(id));
        }
        let result = |k, t| if c.kind == Kind::Loop { Temp::Param(level, k, t) } else { Temp::Label(level, k, t) };
        if op.falls_in && strip.is_none() {
            self.set_all(&c.results, result);
        }
        self.open.pop();
        match c.kind {
            Kind::Function => {
                self.end_of(Label::Construct(0));
                return;
            }
            Kind::Block | Kind::If if c.landing => self.close_at(index * 4 + 1),
            Kind::Block | Kind::If | Kind::Loop => {
                self.end_of(Label::Construct(id));
                if let Some(strip) = strip {
                    self.i(I::LocalGet(strip.induction));
                    self.bound(strip.bound);
                    self.compare(strip.compare);
                    let (outer, _) = *self.labels.last().expect("the outer loop");
                    self.br_if(outer);
                    self.end();
                }
            }
            Kind::Try => self.end_try(id),
        }
        if c.landing || c.kind == Kind::Loop {
            let (own, base) = self.own(&c.under);
            self.get_all(own, |k, t| Temp::Depth(base + k, t));
        }
        self.get_all(&c.results, result);
    }

    fn end_try(&mut self, id: u32) {
        self.end_of(Label::Construct(id));
        let c = &self.s.constructs[id as usize];
        let Operator::TryTable { try_table } = &self.s.ops[c.start as usize].operator else {
            unreachable!("a try construct starts with try_table")
        };
        let after = self.labels[self.labels.len() - 1 - try_table.catches.len()].0;
        self.br(after);
        for catch in &try_table.catches {
            self.end();
            let (Catch::One { label, .. }
            | Catch::OneRef { label, .. }
            | Catch::All { label }
            | Catch::AllRef { label }) = catch;
            let (to, types, level) = self.target(*label);
            self.set_all(&types, |k, t| Temp::Label(level, k, t));
            self.br(to);
        }
        self.end_of(after);
    }

    fn br_on_null(&mut self, op: &Op<'_>, depth: u32) {
        let Some(ty) = op.top else {
            self.copy(op);
            return;
        };
        let (label, types, level) = self.target(depth);
        let on_null = matches!(op.operator, Operator::BrOnNull { .. });
        let reference = self.p.locals.index(Temp::Scratch(plan::nullable(ty)));
        self.i(I::LocalTee(reference));
        self.i(I::RefIsNull);
        if !on_null {
            self.i(I::I32Eqz);
        }
        self.set(Temp::Scratch(ValType::I32));
        let carried = if on_null { &types[..] } else { &types[..types.len() - 1] };
        self.set_all(carried, |k, t| Temp::Label(level, k, t));
        if !on_null {
            self.i(I::LocalGet(reference));
            self.set(Temp::Label(level, carried.len() as u32, types[types.len() - 1]));
        }
        self.get_all(carried, |k, t| Temp::Label(level, k, t));
        self.get(Temp::Scratch(ValType::I32));
        self.br_if(label);
        if on_null {
            self.i(I::LocalGet(reference));
            self.i(I::RefAsNonNull);
        }
    }

    fn call(&mut self, op: &Op<'_>, index: u32, point: u32) {
        let p = &self.s.points[point as usize];
        let (own, base) = self.own(&p.stack);
        let again = matches!(p.kind, PointKind::HostCall(_));
        let kept = own.len() - p.args;
        if again {
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
            self.close_at(index * 4);
            self.get_all(&own[kept..], |k, t| Temp::Depth(base + kept as u32 + k, t));
        } else if !own.is_empty() {
            let args = self.arguments(op);
            self.set_all(&args, Temp::Arg);
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
            self.get_all(&args, Temp::Arg);
        }
        match op.operator {
            Operator::ReturnCall { function_index } => self.i(I::Call(function_index)),
            _ => self.copy(op),
        }
        self.set_all(&p.results, Temp::Result);
        self.global(Globals::unwinding);
        let cold = self.unlikely_if();
        self.save(point);
        self.end_of(cold);
        if !again {
            self.close_at(index * 4 + 3);
        }
        self.get_all(&own[..kept], |k, t| Temp::Depth(base + k, t));
        self.get_all(&p.results, Temp::Result);
        if matches!(op.operator, Operator::ReturnCall { .. }) {
            self.i(I::Return);
        }
    }

    /// Types of a call's operands, callee reference or index included.
    fn arguments(&self, op: &Op<'_>) -> Vec<ValType> {
        let m = self.cx.module;
        let by_type = |ty: u32| m.types[ty as usize].as_ref().expect("validated").params().to_vec();
        match op.operator {
            Operator::Call { function_index } => m.type_of(function_index).params().to_vec(),
            Operator::CallIndirect { type_index, table_index } => {
                let mut types = by_type(type_index);
                types.push(if m.tables[table_index as usize].table64 { ValType::I64 } else { ValType::I32 });
                types
            }
            Operator::CallRef { type_index } => {
                let mut types = by_type(type_index);
                let heap = wasmparser::HeapType::Concrete(wasmparser::UnpackedIndex::Module(type_index));
                types.push(ValType::Ref(wasmparser::RefType::new(true, heap).expect("small index")));
                types
            }
            _ => Vec::new(),
        }
    }

    fn finish(self) -> Rewritten {
        let s = self.s;
        // Declared locals, then added ones, in runs of one type.
        let declared = s.locals[s.params..].iter().map(|t| plan::nullable(*t));
        let mut runs: Vec<(u32, ValType)> = Vec::new();
        for ty in declared.chain(self.p.locals.types.iter().copied()) {
            match runs.last_mut() {
                Some((n, t)) if *t == ty => *n += 1,
                _ => runs.push((1, ty)),
            }
        }
        let mut code = Vec::with_capacity(self.out.len() + 16);
        (runs.len() as u32).encode(&mut code);
        for (n, ty) in runs {
            n.encode(&mut code);
            val_type(ty).encode(&mut code);
        }
        let shift = code.len() as u32;
        code.extend_from_slice(&self.out);
        let unlikely = self.unlikely.iter().map(|o| o + shift).collect();
        let meta = self.cx.slots.contains_key(&self.function).then(|| crate::meta::Function {
            index: self.function,
            result_class: self.cx.class_of[s.ty.results()],
            locals: s.locals.len() as u32,
            frame_size: self.p.frame_size,
            slots: self
                .p
                .slots
                .iter()
                .map(|f| crate::meta::Slot { local: f.local, ty: f.slot, offset: f.offset })
                .collect(),
            points: s
                .points
                .iter()
                .zip(&self.p.live)
                .map(|(p, live)| crate::meta::Point { kind: p.kind, offset: p.offset, live: live.clone() })
                .collect(),
            callee_classes: s
                .points
                .iter()
                .map(|p| if p.kind.is_innermost() { 0 } else { self.cx.class_of[&p.results] })
                .collect(),
        });
        Rewritten { index: self.function, code, unlikely, meta, refusals: self.refusals }
    }
}

/// A value of a type that nobody looks at; `None` where a type has none.
pub fn dummy(ty: ValType) -> Option<I<'static>> {
    Some(match ty {
        ValType::I32 => I::I32Const(0),
        ValType::I64 => I::I64Const(0),
        ValType::F32 => I::F32Const(0.0.into()),
        ValType::F64 => I::F64Const(0.0.into()),
        ValType::V128 => I::V128Const(0),
        ValType::Ref(r) if r.is_nullable() => I::RefNull(r.heap_type().try_into().ok()?),
        ValType::Ref(_) => return None,
    })
}
