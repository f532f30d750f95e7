import assert from "node:assert/strict";
import { test } from "node:test";
import { RandomGenerator } from "../../../src/engine/random.js";

test("the same seed gives the same draws, another seed others", () => {
  const draw = (seed: number) => {
    const generator = new RandomGenerator(seed);
    return [generator.normal(), generator.uniform(), generator.integer(0, 1000), ...generator.permutation(5)];
  };
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
});

test("a saved state goes on where it was read, between the two halves of a normal pair too", () => {
  const generator = new RandomGenerator(3);
  generator.normal();
  const copy = RandomGenerator.fromState(JSON.parse(JSON.stringify(generator.getState())));
  for (let i = 0; i < 5; i++) assert.equal(copy.normal(), generator.normal());
});

test("normal draws have mean 0 and variance 1", () => {
  const generator = new RandomGenerator(1);
  const values = Array.from({ length: 20000 }, () => generator.normal());
  const mean = values.reduce((a, b) => a + b) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  assert.ok(Math.abs(mean) < 0.03, `mean ${mean}`);
  assert.ok(Math.abs(variance - 1) < 0.05, `variance ${variance}`);
});

test("a seed that is no integer is refused by name", () => {
  assert.throws(() => new RandomGenerator(0.5), /seed: expected an integer, found 0.5/);
});

test("the first draws of neighbouring seeds have nothing to do with each other", () => {
  const first = Array.from({ length: 2000 }, (_, seed) => new RandomGenerator(seed).uniform());
  const mean = first.reduce((a, b) => a + b) / first.length;
  const covariance = (lag: number) =>
    first.slice(lag).reduce((sum, value, i) => sum + (value - mean) * (first[i]! - mean), 0) / first.length;
  assert.ok(Math.abs(mean - 0.5) < 0.03, `mean ${mean}`);
  for (const lag of [1, 2, 3, 5]) {
    const correlation = covariance(lag) / covariance(0);
    assert.ok(Math.abs(correlation) < 0.1, `lag ${lag}: ${correlation}`);
  }
});

test("normal draws are passed over as if they had been drawn, however many", () => {
  for (const drawnBefore of [0, 1]) {
    for (const count of [0, 1, 2, 3, 7, 1000, 12_345]) {
      const [skipped, drawn] = [new RandomGenerator(count), new RandomGenerator(count)];
      for (const generator of [skipped, drawn]) for (let i = 0; i < drawnBefore; i++) generator.normal();
      skipped.skipNormals(count);
      for (let i = 0; i < count; i++) drawn.normal();
      assert.deepEqual(skipped.getState(), drawn.getState(), `${count} after ${drawnBefore}`);
    }
  }
  const [once, twice] = [new RandomGenerator(5), new RandomGenerator(5)];
  once.skipNormals(3e15);
  for (let i = 0; i < 3; i++) twice.skipNormals(1e15);
  assert.deepEqual(once.getState(), twice.getState());
  assert.throws(() => once.skipNormals(-1), /skipNormals: expected a whole number of draws, found -1/);
});
