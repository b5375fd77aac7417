/** Here already, or on its way. `await` takes both; only what is on its way costs a promise. */
export type Awaitable<T> = T | Promise<T>;

/** `next` of the value: at once when it is here. For what nearly every request does, and nearly always knows already. */
export function after<T, U>(value: Awaitable<T>, next: (value: T) => Awaitable<U>): Awaitable<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
