// A line over time.
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { theme } from './theme';

const HEIGHT = 104;
const SHOWN_S = 60;

export interface Series {
  label: string;
  colour: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  times: number[];
  series: Series[];
  show: (n: number) => string;
  /** The axis ends there, or where the values do. */
  most?: number;
  /** Steps of the axis, where these are not to be 1, 2 and 5. */
  steps?: number[];
}
/** For bytes, which are counted in powers of two. */
export const POWERS = Array.from({ length: 50 }, (_, i) => 2 ** i);

export function Chart({ title, times, series, show, most = 0, steps }: Props) {
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const shown = theme.value;
  useEffect(() => {
    const element = ref.current!;
    const style = getComputedStyle(element);
    const of = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: of('--quiet'), grid: { stroke: of('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const made = new uPlot(
      {
        width: element.clientWidth || 320,
        height: HEIGHT,
        legend: { show: series.length > 1, live: true },
        cursor: { y: false },
        scales: { x: { range: (_, least, last) => [Math.min(least, last - SHOWN_S), last] }, y: { range: (_, __, top) => [0, Math.max(most, top > most ? top * 1.15 : 0) || 1] } },
        series: [
          { value: (_, at) => (at == null ? '' : new Date(at * 1000).toLocaleTimeString()) },
          ...series.map(({ label, colour }) => ({
            label,
            stroke: of(colour),
            width: 1.5,
            points: { show: false },
            value: (_: uPlot, v: number | null) => (v == null ? '—' : show(v)),
          })),
        ],
        axes: [
          { ...axis, size: 24, values: (_, all) => all.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false })), space: 80 },
          { ...axis, size: 70, values: (_, all) => all.map((v) => show(v)), space: 28, ...(steps ? { incrs: steps } : {}) },
        ],
      },
      [times, ...series.map((one) => one.values)],
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [shown, series.length, series.map((one) => one.label).join()]);
  useEffect(() => plot.current?.setData([times, ...series.map((one) => one.values)]), [times]);
  const last = series.map(({ label, values }) => `${label} ${values.at(-1) == null ? '—' : show(values.at(-1)!)}`).join(', ');
  return (
    <figure class="chart">
      <figcaption>
        {title} {series.length === 1 && series[0]!.values.at(-1) != null && <b>{show(series[0]!.values.at(-1)!)}</b>}
      </figcaption>
      <div ref={ref} role="img" aria-label={`${title}: ${last}`} />
    </figure>
  );
}
