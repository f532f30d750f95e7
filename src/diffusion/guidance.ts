/**
 * Dynamic classifier-free guidance as CogVideoX's pipelines compute it: by the timestep's value, not the step's
 * index, so (n - t) / n is far below 0 and its fifth power huge. The cosine then depends on the last bit of the power,
 * which is therefore rounded correctly here, as C's pow almost always does.
 *
 * @param timestep of the schedule (999 to 0), not the step's index
 * @returns 1 + scale * (1 - cos(pi ((n - t) / n)^5)) / 2
 */
export function dynamicGuidanceScale(scale: number, timestep: number, numInferenceSteps: number): number {
  const ratio = (numInferenceSteps - timestep) / numInferenceSteps;
  return 1 + (scale * (1 - Math.cos(Math.PI * fifthPower(ratio)))) / 2;
}

/** x^5, rounded once. */
export function fifthPower(x: number): number {
  if (x === 0 || !Number.isFinite(x)) return x ** 5;
  // x = mantissa * 2^exponent with an integer mantissa, whose power is computed exactly.
  let mantissa = Math.abs(x);
  let exponent = 0;
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2;
    exponent--;
  }
  const power = BigInt(mantissa) ** 5n;
  const excess = Math.max(power.toString(2).length - 53, 0);
  const unit = 1n << BigInt(excess);
  const [quotient, rest] = [power / unit, power % unit];
  const up = rest * 2n > unit || (rest * 2n === unit && quotient % 2n === 1n);
  const rounded = Number(up ? quotient + 1n : quotient);
  return Math.sign(x) * rounded * 2 ** excess * 2 ** (5 * exponent);
}
