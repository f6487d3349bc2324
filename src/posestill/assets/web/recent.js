// The median of the last few times, which one slow frame does not move.

const KEPT = 30;

export class Recent {
  constructor() {
    this.values = [];
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
  }

  // The median of what was added last; null where nothing was.
  get median() {
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
  }
}
