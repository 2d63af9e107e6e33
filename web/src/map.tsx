// The cluster drawn: nodes with what they have, links with what was measured, tasks on their nodes, and tasks on their way. Up to a
// dozen nodes stand around the controller's; more stand in rows; and of very many each is a square, coloured by its load.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Node, Task } from './api';
import { bytes, cores, rate, span, speed } from './format';
import { t } from './i18n';
import { go } from './router';
import { natural } from './select';
import { type Flight } from './changes';
import { flights, nodes, standbys, tasks, version } from './store';
import { Bar, Mark, NodeState } from './ui';

type By = Map<string, { tasks: Task[]; cores: number; memory: number }>;
const AROUND = 12;
const CARDS = 80;
/** Tasks that are drawn on a node. */
const DRAWN = 40;
const FLIGHT_MS = 1600;

interface Box {
  x: number;
  y: number;
}

export function ClusterMap({ by }: { by: By }) {
  void version.value;
  const all = [...nodes.values()].sort((a, b) => Number(b.controller) - Number(a.controller) || natural(a.name, b.name));
  const ref = useRef<HTMLDivElement>(null);
  const [boxes, setBoxes] = useState<{ map: Map<string, Box>; width: number; height: number }>({ map: new Map(), width: 0, height: 0 });
  const [width, setWidth] = useState(0);
  const wide = width >= 760 && all.length <= AROUND && all.length > 1;
  useLayoutEffect(() => {
    const element = ref.current!;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    setWidth(element.clientWidth);
    return () => observer.disconnect();
  }, []);
  const names = all.map((node) => node.name).join('\n');
  useLayoutEffect(() => {
    const element = ref.current!;
    const map = new Map<string, Box>();
    const around = element.getBoundingClientRect();
    for (const card of element.querySelectorAll<HTMLElement>('[data-node]')) {
      const box = card.getBoundingClientRect();
      map.set(card.dataset.node!, { x: box.left - around.left + box.width / 2, y: box.top - around.top + box.height / 2 });
    }
    setBoxes({ map, width: element.clientWidth, height: element.scrollHeight });
  }, [names, width, wide]);

  if (!all.length) return <div ref={ref} class="map" />;
  if (all.length > CARDS) return <div ref={ref}><Squares all={all} by={by} /></div>;
  const centre = all.find((node) => node.controller) ?? all[0]!;
  const others = all.filter((node) => node !== centre);
  const height = others.length > 6 ? 680 : others.length > 3 ? 560 : 480;
  const isThree = others.length === 2;
  const place = (i: number): Box => {
    if (isThree) return { x: i ? 0.8 : 0.2, y: 0.74 };
    // The first at the left.
    const angle = Math.PI + (2 * Math.PI * i) / others.length;
    return { x: 0.5 + 0.36 * Math.cos(angle), y: 0.5 + 0.34 * Math.sin(angle) };
  };
  const isRow = others.length === 1;
  const style = (node: Node) => {
    if (!wide) return undefined;
    const at = node === centre ? { x: isRow ? 0.75 : 0.5, y: isThree ? 0.24 : 0.5 } : place(others.indexOf(node));
    return { left: `${at.x * 100}%`, top: `${at.y * 100}%` };
  };
  return (
    <div ref={ref} class={wide ? 'map is-around' : 'map'} style={wide ? { height: `${isRow ? 190 : isThree ? 380 : height}px` } : undefined}>
      {wide && <Links boxes={boxes.map} centre={centre} others={others} />}
      {all.map((node) => (
        <Card key={node.name} node={node} on={by.get(node.name)} style={style(node)} />
      ))}
      <Flights boxes={boxes.map} />
    </div>
  );
}

function Card({ node, on, style }: { node: Node; on?: { tasks: Task[]; cores: number; memory: number }; style?: { left: string; top: string } }) {
  const there = on?.tasks ?? [];
  const to = `/nodes/${encodeURIComponent(node.name)}`;
  return (
    <article class={`card node-${node.state}`} data-node={node.name} style={style}>
      <header>
        <a href={to}>{node.name}</a>
        <NodeState state={node.state} />
      </header>
      <p class="quiet">
        {node.isa}
        {node.bare && ` · ${t('bare metal')}`}
        {node.controller && ` · ${t('controller')}`}
        {node.speed != null && ` · ${speed(node.speed)}`}
        {node.rtt != null && !node.controller && ` · ${span(node.rtt)}`}
      </p>
      <Bar label={t('Processors')} part={on?.cores ?? 0} of={node.cores} text={`${cores(on?.cores ?? 0)} / ${cores(node.cores)}`} />
      <Bar label={t('Memory')} part={on?.memory ?? 0} of={node.memory} text={`${bytes(on?.memory ?? 0)} / ${bytes(node.memory)}`} />
      <p class="dots">
        {there.slice(0, DRAWN).map((task) => (
          <a key={task.name} href={`/tasks/${encodeURIComponent(task.name)}`} title={`${task.name}: ${t(task.state)}`} aria-label={`${task.name}: ${t(task.state)}`}>
            <Mark state={task.state} />
          </a>
        ))}
        {there.length > DRAWN && <a href={`/tasks?node=${encodeURIComponent(node.name)}`}>+{there.length - DRAWN}</a>}
        {!there.length && <span class="quiet">{t('no tasks')}</span>}
      </p>
    </article>
  );
}

function Links({ boxes, centre, others }: { boxes: Map<string, Box>; centre: Node; others: Node[] }) {
  const from = boxes.get(centre.name);
  const pairs = standbys.value.filter((pair) => boxes.has(pair.primary) && boxes.has(pair.standby));
  if (!from) return null;
  return (
    <svg class="links" aria-hidden="true">
      {others.map((node) => {
        const to = boxes.get(node.name);
        if (!to) return null;
        return (
          <g key={node.name}>
            <line class={node.state === 'lost' ? 'link is-lost' : 'link'} x1={from.x} y1={from.y} x2={to.x} y2={to.y} />
            {node.rtt != null && node.state !== 'lost' && (
              <text x={(from.x + to.x) / 2} y={(from.y + to.y) / 2 + 4}>
                {node.bandwidth != null && `${rate(node.bandwidth)} · `}
                {span(node.rtt)}
              </text>
            )}
          </g>
        );
      })}
      {pairs.map((pair) => {
        const [a, b] = [boxes.get(pair.primary)!, boxes.get(pair.standby)!];
        // Beside the straight one, so that both are seen.
        const [dx, dy] = [b.x - a.x, b.y - a.y];
        const length = Math.hypot(dx, dy) || 1;
        const bend = { x: (a.x + b.x) / 2 - (dy / length) * 90, y: (a.y + b.y) / 2 + (dx / length) * 90 };
        const measured = [pair.bandwidth != null ? rate(pair.bandwidth) : '', pair.delay != null ? span(pair.delay) : ''].filter(Boolean);
        return (
          <g key={`${pair.task} ${pair.standby}`}>
            <path class={pair.connected ? 'pair' : 'pair is-lost'} d={`M${a.x} ${a.y}Q${bend.x} ${bend.y} ${b.x} ${b.y}`} />
            <text x={(a.x + b.x) / 4 + bend.x / 2} y={(a.y + b.y) / 4 + bend.y / 2 + 14}>
              {pair.task}
              {measured.length ? ` · ${measured.join(' · ')}` : ''}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

/** Tasks on their way: each a mark that goes from one node to the other, and stays on the way while the move lasts. */
function Flights({ boxes }: { boxes: Map<string, Box> }) {
  const [now, setNow] = useState(Date.now());
  const seen = useRef(new Map<Flight, number>());
  const flying = flights.value.filter((flight) => {
    const began = seen.current.get(flight) ?? (seen.current.set(flight, Date.now()), Date.now());
    return now - began < FLIGHT_MS || tasks.get(flight.task)?.to === flight.to;
  });
  const busy = flying.length > 0;
  useEffect(() => {
    if (!busy) return;
    let frame = requestAnimationFrame(function step() {
      setNow(Date.now());
      frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [busy]);
  if (!busy) return null;
  return (
    <svg class="flights" aria-hidden="true">
      {flying.map((flight) => {
        const [a, b] = [boxes.get(flight.from), boxes.get(flight.to)];
        if (!a || !b) return null;
        const part = (now - seen.current.get(flight)!) / FLIGHT_MS;
        const moving = tasks.get(flight.task)?.to === flight.to;
        const to = moving ? Math.min(part, 0.5) : Math.min(1, part);
        const eased = to < 0.5 ? 2 * to * to : 1 - 2 * (1 - to) ** 2;
        const [x, y] = [a.x + (b.x - a.x) * eased, a.y + (b.y - a.y) * eased];
        return (
          <g key={`${flight.task} ${flight.at}`} data-flight={flight.task}>
            <line x1={a.x} y1={a.y} x2={x} y2={y} />
            <circle cx={x} cy={y} r="7" />
            <text x={x} y={y - 12}>
              {flight.task}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

const SQUARE = 18;

/** Many nodes, in one picture. */
function Squares({ all, by }: { all: Node[]; by: By }) {
  const ref = useRef<HTMLCanvasElement>(null);
  const [over, setOver] = useState<Node | undefined>();
  const columns = Math.max(1, Math.floor((ref.current?.parentElement?.clientWidth ?? 900) / SQUARE));
  useEffect(() => {
    const canvas = ref.current!;
    const scale = devicePixelRatio || 1;
    const rows = Math.ceil(all.length / columns);
    canvas.width = columns * SQUARE * scale;
    canvas.height = rows * SQUARE * scale;
    canvas.style.width = `${columns * SQUARE}px`;
    const style = getComputedStyle(canvas);
    const [line, fill, bad] = ['--line', '--blue', '--red'].map((name) => style.getPropertyValue(name)) as [string, string, string];
    const context = canvas.getContext('2d')!;
    context.scale(scale, scale);
    all.forEach((node, i) => {
      const [x, y, side] = [(i % columns) * SQUARE, Math.floor(i / columns) * SQUARE, SQUARE - 3];
      const share = Math.min(1, (by.get(node.name)?.cores ?? 0) / (node.cores || 1));
      context.globalAlpha = 1;
      context.fillStyle = line;
      context.fillRect(x, y, side, side);
      context.fillStyle = fill;
      // From below, as a glass.
      context.fillRect(x, y + side * (1 - share), side, side * share);
      if (node.state !== 'ready') {
        context.strokeStyle = bad;
        context.lineWidth = 2;
        context.beginPath();
        context.moveTo(x + 2, y + 2);
        context.lineTo(x + side - 2, y + side - 2);
        if (node.state === 'lost') {
          context.moveTo(x + side - 2, y + 2);
          context.lineTo(x + 2, y + side - 2);
        }
        context.stroke();
      }
    });
  });
  const find = (e: MouseEvent) => all[Math.floor(e.offsetY / SQUARE) * columns + Math.floor(e.offsetX / SQUARE)];
  return (
    <>
      <p class="quiet" aria-live="off">
        {over ? `${over.name} · ${over.isa} · ${t(over.state as 'ready')} · ${cores(by.get(over.name)?.cores ?? 0)} / ${cores(over.cores)}` : t('{n} nodes: each square is one, filled by the processors that are taken; crossed out are those that are lost', { n: all.length })}
      </p>
      <canvas
        ref={ref}
        class="squares"
        role="img"
        aria-label={t('{n} nodes: each square is one, filled by the processors that are taken; crossed out are those that are lost', { n: all.length })}
        onMouseMove={(e) => setOver(find(e))}
        onMouseLeave={() => setOver(undefined)}
        onClick={(e) => {
          const node = find(e);
          if (node) go(`/nodes/${encodeURIComponent(node.name)}`);
        }}
      />
    </>
  );
}
