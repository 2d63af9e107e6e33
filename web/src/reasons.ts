// What the controller says, in Chinese. It gives its reasons in English, as whole sentences with names and figures in them: each form
// of them stands here once, as the code that makes it has it, and what fits none is shown as it came. A test looks the forms up in that code.
const FORMS: [string, string][] = [
  // crates/sched/src/plan.rs: why a task lies where it lies.
  ['the longest task that fits into what was free here; {n} more waited', '能放入此处空闲资源的最长任务；另有 {n} 个等待'],
  ['the longest task that ends here within {span}; {n} more waited', '能在 {span} 内在此完成的最长任务；另有 {n} 个等待'],
  ['the smallest task, and it fits into what was free here; {n} more waited', '最小的任务，且能放入此处空闲资源；另有 {n} 个等待'],
  ['first in line, and this node had room; {n} more waited', '排在最前，且该节点有空间；另有 {n} 个等待'],
  ['its owner has had least, and this node had room; {n} more waited', '其所有者占用最少，且该节点有空间；另有 {n} 个等待'],
  ['everything runs on the initiating node', '全部在发起节点运行'],
  ['the initiating node has room', '发起节点有空间'],
  ['no room on the initiating node; here most memory was free: {bytes}', '发起节点没有空间；此处空闲内存最多：{bytes}'],
  ['where the best generation has it (cost {cost} s)', '最优一代将其放在此处（代价 {cost} 秒）'],
  ['ends here soonest, at {end}, though its image needs {span}', '在此完成最早（{end}），虽然传送镜像需要 {span}'],
  ['ends here soonest, at {end}', '在此完成最早（{end}）'],
  ['moved here by the search, which gained {span}', '由搜索移到此处，共节省 {span}'],
  // crates/sched/src/model.rs: why it can never run.
  ['refused: there is no node', '拒绝：没有节点'],
  ['refused: every node is cordoned', '拒绝：所有节点都已停止调度'],
  ['refused: it is to run on the initiating node, which cannot take it', '拒绝：须在发起节点运行，而该节点无法接收'],
  ['refused: no node that would do has a GPU', '拒绝：符合条件的节点都没有 GPU'],
  ['refused: no node that would do has the label {label}', '拒绝：符合条件的节点都没有标签 {label}'],
  ['refused: it asks for {asks} cores, and the largest node has {most}', '拒绝：需要 {asks} 个核，最大的节点只有 {most} 个'],
  ['refused: it asks for {asks}, and the largest node has {most}', '拒绝：需要 {asks}，最大的节点只有 {most}'],
  ['refused: {n} tasks wait already', '拒绝：已有 {n} 个任务等待'],
  ['refused: a task of this name waits or runs', '拒绝：已有同名任务等待或运行'],
  // crates/control/src/core.rs and below it: what became of a task.
  ['{why}: it goes on from its snapshot of {age} s ago', '{why}：从 {age} 秒前的快照继续运行'],
  ['it waits until a node has room', '等待有空间的节点'],
  ['cancelled', '已取消'],
  ['{node} was not heard of when the controller began', '控制器启动时没有 {node} 的消息'],
  ['{node} was lost', '{node} 失联'],
  ['could not be started on {node}: {why}', '无法在 {node} 上启动：{why}'],
  ['{node} does not have it any more', '{node} 上已没有该任务'],
  ['{node} does not answer', '{node} 没有应答'],
  ['its standby here took over from {node}', '此处的备份从 {node} 接替运行'],
  ['{why}: it came from {node}, stood still for {ms} ms, {mib} MiB were sent', '{why}：来自 {node}，停顿 {ms} 毫秒，传送 {mib} MiB'],
  ['it ends sooner here', '在此完成更早'],
  ['it was moved here', '已迁移至此'],
  ['{node} is free and faster: {why}', '{node} 空闲且更快：{why}'],
  // crates/sched/src/migrate.rs: whether a move pays.
  ['{verdict}: gains {gain}, costs {cost} ({copy} of copying, {still} standing still)', '{verdict}：节省 {gain}，代价 {cost}（复制 {copy}，停顿 {still}）'],
  ['it was moved here from {node}', '由 {node} 迁移至此'],
  ['it stays here: it was not moved to {node}', '留在此处：未能迁移到 {node}'],
  ['{node} was not heard of for a while', '{node} 一度没有消息'],
  ['it is on its way to {node}', '正在迁往 {node}'],
  ['it ended with status {status}', '以状态 {status} 结束'],
  ['it was stopped: {why}', '被停止：{why}'],
  ['told to', '按指令'],
  ['it trapped: {why}', '运行出错（trap）：{why}'],
  ['{node} is lost, and {standby} is to go on with it', '{node} 失联，将由 {standby} 继续运行'],
  ['its node was lost, and its standby did not go on with it', '所在节点失联，备份也未能继续运行'],
  // crates/control/src/http/machines.rs: what a task does, as its node has it.
  ['running', '运行中'],
  ['moving', '迁移中'],
  ['unknown', '未知'],
  ['exited', '已退出'],
  ['trapped', '运行出错（trap）'],
  ['stopped', '已停止'],
  ['left', '已迁出'],
  ['failed', '失败'],
  // crates/policy/src/reason.rs: why a standby is synced now, or not.
  ['no sync: the link is down', '不同步：链路中断'],
  ['a sync is under way', '正在同步'],
  ['no sync: the task does nothing', '不同步：任务空闲'],
  ['no sync: nothing has changed since the last', '不同步：上次以来没有变化'],
  ['{verdict}: {risk} at risk {sign} {interval}; an outage about every {every} at {link}', '{verdict}：面临损失 {risk} {sign} {interval}；约每 {every} 中断一次，链路 {link}'],
  ['{verdict}: {risk} at risk {sign} {interval}; an outage about every {every}', '{verdict}：面临损失 {risk} {sign} {interval}；约每 {every} 中断一次'],
  ['{verdict}: {since} since the last sync, every {interval}', '{verdict}：距上次同步 {since}，间隔 {interval}'],
  ['{verdict}: {since} since the last sync, S* {interval} for P {p} and {size}', '{verdict}：距上次同步 {since}，P {p}、{size} 时 S* 为 {interval}'],
  ['wait: {since} since the last sync, and P is 0', '等待：距上次同步 {since}，P 为 0'],
  ['sync: {risk} at risk and {takes} to send it, of {most} allowed', '同步：面临损失 {risk}，传送需 {takes}，至多允许 {most}'],
  ['wait: {risk} at risk, but {takes} of sync is beyond {percent} % of the link', '等待：面临损失 {risk}，但同步 {takes} 将超过链路的 {percent} %'],
  ['wait: the last sync began {since} ago', '等待：上次同步开始于 {since} 前'],
  ['wait: a sync takes {takes}, and the link lasts that long with {percent} %', '等待：同步需 {takes}，链路能维持这么久的概率为 {percent} %'],
  ['wait: nothing heard for {span}', '等待：已 {span} 没有消息'],
  ['wait: the last sync was cut ({n}), the next try in {span}', '等待：上次同步中断（{n}），{span} 后重试'],
  ['wait: the last syncs were cut ({n}), the next try in {span}', '等待：最近的同步中断（{n}），{span} 后重试'],
  // crates/control/src/core.rs, core/guard.rs, http: why something is not done.
  ['no node named {name} is known', '没有名为 {name} 的节点'],
  ['no task named {name} is known', '没有名为 {name} 的任务'],
  ['{name} does not run: it is {state}', '{name} 未在运行：{state}'],
  ['{name} runs on {node} already', '{name} 已在 {node} 上运行'],
  ['{node} is lost', '{node} 失联'],
  ['it is cordoned', '该节点已停止调度'],
  ["the task is to stay on the controller's node", '该任务须留在控制器所在节点'],
  ['it has no GPU', '该节点没有 GPU'],
  ['it lacks the label {label}', '该节点没有标签 {label}'],
  ['{node} cannot have {name}: {why}', '{node} 不能接收 {name}：{why}'],
  ['{node} has no room for {name} now: other tasks run there', '{node} 上有其他任务运行，暂无空间接收 {name}'],
  ['{name} has a standby on {standby}, which is up to date as it is', '{name} 在 {standby} 上有备份，备份状态本来就是最新的'],
  ['{n} snapshots of {name} are kept: remove one first', '已保存 {name} 的 {n} 个快照：请先移除一个'],
  ['no snapshot: {why}', '未能保存快照：{why}'],
  ['the task was over before it was made', '任务在快照完成前已结束'],
  ['no snapshot {id} is known', '没有编号为 {id} 的快照'],
  ['{name} has gone on from this snapshot, and may have to again', '{name} 由此快照继续运行，可能再次需要它'],
  ['the task of snapshot {id} is not known any more', '快照 {id} 所属的任务已不存在'],
  ['{node} does not say what {name} takes: {why}', '{node} 未报告 {name} 的资源使用：{why}'],
  ['the move broke off: {why}', '迁移中断：{why}'],
  ['the moves broke off: {why}', '迁移中断：{why}'],
  ['a snapshot of {name} is being made: ask again in a moment', '正在保存 {name} 的快照：请稍后再试'],
  ['it stays on {node}: {why}', '留在 {node}：{why}'],
  ["{name} is the controller's own node", '{name} 是控制器所在节点'],
  ['tasks run on {node}: drain it first', '{node} 上有任务运行：请先清空'],
  ['{name} is over: it has {state}', '{name} 已结束：{state}'],
  ['{name} is not over: cancel it first', '{name} 尚未结束：请先取消'],
  ['the set cannot be taken, and nothing of it was', '任务集无法接收，未接收任何任务'],
  ['this cannot be planned', '无法制定计划'],
  ['nobody was invited: these nodes cannot all be', '未发出邀请：这些节点不能都加入'],
  ['nobody was invited: some of these nodes are there', '未发出邀请：其中有些节点已存在'],
  ['there is a node named {name}: use another name, or {command} if it is no more', '已有名为 {name} 的节点：请换名，若它已不存在请执行 {command}'],
  ['format {format}: {why}', '格式 {format}：{why}'],
  ['address: {address} is no IPv4 address with a port, as 192.0.2.9:7600', '{address} 不是带端口的 IPv4 地址，例如 192.0.2.9:7600'],
  ['no such token is good here', '令牌无效'],
  ['the controller cannot be reached', '无法连接控制器'],
  // web/src/schema.ts, json.ts, and crates/api where it says the same: what is wrong with what was typed.
  ['is missing', '缺失'],
  ['is empty', '为空'],
  ['is not known here', '此处没有这一项'],
  ['is not as it can be', '不符合要求'],
  ['is none of {all}', '不在可选值 {all} 之中'],
  ['is {what}, where {type} is needed', '是{what}，此处需要{type}'],
  ['{value} is less than {least}', '{value} 小于 {least}'],
  ['{value} is not {least} to {most}', '{value} 不在 {least} 到 {most} 之间'],
  ['is longer than {n} characters', '超过 {n} 个字符'],
  ['has more than {n}', '超过 {n} 项'],
  ["cannot be a name: use letters, digits, '-', '_' and '.'", "不能用作名称：请使用字母、数字、'-'、'_' 和 '.'"],
  ["cannot be a node's name: use letters, digits and '-'", "不能用作节点名称：请使用字母、数字和 '-'"],
  ['cannot be a label: use no spaces', '不能用作标签：不要使用空格'],
  ['is no digest of a module: 64 hexadecimal digits', '不是模块摘要：64 个十六进制数字'],
  ['{image} is no digest, and no program of this name was chosen', '{image} 不是摘要，也没有选择同名程序'],
  ['there is a node named {name} already', '已有名为 {name} 的节点'],
  ['there is a task named {name} already', '已有名为 {name} 的任务'],
  ['there is a set named {name} already', '已有名为 {name} 的任务集'],
  ['{name} stands here twice', '{name} 出现了两次'],
  ['{policy} would take too long for {tasks} tasks on {nodes} nodes: use list, or fewer of them', '{policy} 处理 {nodes} 个节点上的 {tasks} 个任务耗时过长：请改用 list，或减少数量'],
  ['there is no kernel in {places}: `./x unikernel` builds it', '在 {places} 没有内核：请用 `./x unikernel` 构建'],
  ['a string ends on the line where it begins', '字符串须在同一行内结束'],
  ['this string does not end', '字符串没有结束'],
  ['there is something wrong after a \\ in this string', '字符串中 \\ 之后有误'],
  ['this is too deep', '嵌套过深'],
  ['a name in double quotes is missing before {what}', '{what} 之前缺少双引号中的名称'],
  ['{token} is missing before {what}', '{what} 之前缺少 {token}'],
  ['{what} begins no value', '{what} 不是值的开头'],
  ['{what} stands after the end', '{what} 位于结尾之后'],
];

/** Words that stand where a figure or a name stands. */
const WORDS: Record<string, string> = {
  sync: '同步',
  wait: '等待',
  move: '迁移',
  stay: '不迁移',
  'a text': '文本',
  'a number': '数字',
  'a whole number': '整数',
  'true or false': '布尔值',
  'a list': '列表',
  'an object': '对象',
  'the end of the text': '文本末尾',
  waiting: '等待中',
  starting: '启动中',
  running: '运行中',
  moving: '迁移中',
  succeeded: '成功',
  failed: '失败',
};

/** `names`: of what stands in a form's gaps, in order. */
interface Form {
  fits: RegExp;
  names: string[];
  zh: string;
}

const forms: Form[] = FORMS.map(([en, zh]) => {
  const names: string[] = [];
  const fits = en.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{(\w+)\}/g, (_, name: string) => {
    names.push(name);
    // Last may stand anything, lines and all: what a program said when it failed.
    return name === 'why' ? '([^]+)' : '(.+?)';
  });
  return { fits: new RegExp(`^${fits}$`), names, zh };
});

/** A reason in Chinese; nothing if it has a form that is not known here. */
export function inChinese(text: string): string | undefined {
  for (const { fits, names, zh } of forms) {
    const found = fits.exec(text);
    if (!found) continue;
    return zh.replace(/\{(\w+)\}/g, (_, name: string) => {
      const said = found[names.indexOf(name) + 1]!;
      if (said in WORDS) return WORDS[said]!;
      if (name === 'type') return said.split(' or ').map((word) => WORDS[word] ?? word).join('或');
      return (name === 'why' ? inChinese(said) : undefined) ?? said;
    });
  }
  return undefined;
}
