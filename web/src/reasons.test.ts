import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { inChinese } from './reasons';

const crates = resolve(__dirname, '../../crates');
const text = (path: string) => readFileSync(join(crates, path), 'utf8').split('#[cfg(test)]')[0]!;
const LITERAL = /"((?:[^"\\]|\\[^])*)"/g;

/** What a type is shown as: the texts in its `Display`. */
function shown(path: string, type: string): string[] {
  const from = text(path).split(`impl fmt::Display for ${type} {`)[1]!;
  return [...from.split('\n}\n')[0]!.matchAll(LITERAL)].map((found) => found[1]!);
}

/** A sentence as it comes: gaps filled. */
const filled = (form: string) => form.replace(/\{[^}]*\}/g, '7').replace(/\\"/g, '"');

describe('every reason has its Chinese:', () => {
  it('why a task lies where it lies', () => {
    const all = shown('sched/src/plan.rs', 'Reason');
    expect(all.length).toBeGreaterThan(10);
    expect(all.map(filled).filter((one) => !inChinese(one))).toEqual([]);
  });
  it('why it can never run', () => {
    const all = shown('sched/src/model.rs', 'Refusal');
    expect(all.length).toBeGreaterThan(8);
    expect(all.map(filled).filter((one) => !inChinese(one))).toEqual([]);
  });
  it('what became of it', () => {
    const files = ['control/src/core.rs', ...readdirSync(join(crates, 'control/src/core')).map((name) => `control/src/core/${name}`)];
    // What is put into a task's reason: up to the end of the statement, or of the match's arm.
    const said = /(?:\bwhy = |\bwhy\) = |\bwhy: |start_over\(number, &?|TaskState::(?:Failed|Cancelled), (?:None|Some\(\*status\)), )[^;]*?(?=;|\n {8,}\w+: |\n {12}(?:State|_))/g;
    const all = files.flatMap((file) => [...text(file).matchAll(said)].flatMap((found) => [...found[0].matchAll(LITERAL)].map((one) => one[1]!)));
    // Names that stand in for one that is not known, a field, and what is put together from two of these.
    const forms = all.filter((one) => !/^((its|another) node|tasks\[\{i\}\]|\{why\}: \{from\})$/.test(one));
    expect(forms.length).toBeGreaterThan(15);
    expect(forms).toContain('it waits until a node has room');
    expect(forms).toContain('it ended with status {status}');
    expect(forms.map(filled).filter((one) => !inChinese(one))).toEqual([]);
  });
  it('what a task does, as its node has it', () => {
    const all = [...text('control/src/http/machines.rs').matchAll(/At::\w+(?: \{ \.\. \})? => "(\w+)"/g)].map((found) => found[1]!);
    expect(all.length).toBe(8);
    expect(all.filter((one) => !inChinese(one))).toEqual([]);
  });
  it('whether a move pays, and what a task goes on from', () => {
    const all = shown('sched/src/migrate.rs', 'Verdict').filter((one) => / /.test(one));
    expect(all.length).toBe(1);
    expect(inChinese(filled(all[0]!))).toBeTruthy();
    const [, from] = /format!\("(it goes on from [^"]*)"/.exec(text('control/src/core/snapshots.rs'))!;
    expect(inChinese(`node1 was lost: ${filled(from!)}`)).toBe('node1 失联：从 7 秒前的快照继续运行');
  });
  it('what cannot be done with a snapshot, and where a task cannot go', () => {
    const files = ['control/src/core/snapshots.rs', 'control/src/core/moves.rs'];
    const said = /(?:\bproblem\(\s*4\d\d,\s*|\bproblem\(\s*502,\s*|Some\()(?:format!\(\s*)?"((?:[^"\\]|\\[^])*)"|then\(\|\| format!\("([^"]*)"/g;
    const all = files.flatMap((file) => [...text(file).matchAll(said)].map((found) => found[1] ?? found[2]!)).filter((one) => one !== 'no such task is known');
    expect(all.length).toBeGreaterThan(9);
    expect(all.map(filled).filter((one) => !inChinese(one))).toEqual([]);
  });
  it('why a standby is synced, or not', () => {
    const all = shown('policy/src/reason.rs', 'Reason');
    // Parts that are put together.
    const whole = all.filter((one) => !/^( at .*|sync|wait|>=|<|the last sync.*)$/.test(one)).map((one) => one.replace('{syncs}', 'the last sync was'));
    expect(whole.length).toBeGreaterThan(10);
    expect(whole.map(filled).filter((one) => !inChinese(one))).toEqual([]);
  });
});

describe('a reason is put into Chinese', () => {
  it('with what stands in it', () => {
    for (const [en, zh] of [
      ['it was moved here: it came from node1, stood still for 3.2 ms, 4.1 MiB were sent', '已迁移至此：来自 node1，停顿 3.2 毫秒，传送 4.1 MiB'],
      ['node2 is free and faster: move: gains 5.0 s, costs 200 ms (150 ms of copying, 50 ms standing still)', 'node2 空闲且更快：迁移：节省 5.0 s，代价 200 ms（复制 150 ms，停顿 50 ms）'],
      ['ends here soonest, at 4m12s, though its image needs 850 ms', '在此完成最早（4m12s），虽然传送镜像需要 850 ms'],
      ['refused: it asks for 64 cores, and the largest node has 4', '拒绝：需要 64 个核，最大的节点只有 4 个'],
      ['refused: it asks for 9.0 GB, and the largest node has 2.1 GB', '拒绝：需要 9.0 GB，最大的节点只有 2.1 GB'],
      ['could not be started on node2: node2 does not answer', '无法在 node2 上启动：node2 没有应答'],
      ['it trapped: unreachable\nin a, b', '运行出错（trap）：unreachable\nin a, b'],
      ['sync: 4m12s at risk >= 3m50s; an outage about every 14m00s at 6.1 Mbit/s, 80 ms', '同步：面临损失 4m12s >= 3m50s；约每 14m00s 中断一次，链路 6.1 Mbit/s, 80 ms'],
      ['is a text, where a number is needed', '是文本，此处需要数字'],
      ['"," or "}" is missing before the end of the text', '文本末尾 之前缺少 "," or "}"'],
    ] as const) {
      expect(inChinese(en)).toBe(zh);
    }
  });
  it('or not, if nobody knows it', () => {
    expect(inChinese('the moon is full')).toBeUndefined();
    expect(inChinese('')).toBeUndefined();
  });
});
