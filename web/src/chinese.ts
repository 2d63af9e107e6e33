// All that Chinese is made of: it comes when somebody speaks it.
export { inChinese } from './reasons';
export { zh } from './zh';
