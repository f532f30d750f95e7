// The innermost loops of matrix products, compiled once for each kind of processor. The including file says which:
// FIRSTFRAME_KIND names it, FIRSTFRAME_LANES is how many floats its vectors hold, FIRSTFRAME_ROWS how many rows of a tile
// have their sums in registers.

namespace firstframe {
namespace FIRSTFRAME_KIND {

typedef float Vector __attribute__((vector_size(4 * FIRSTFRAME_LANES)));
constexpr int64_t kLanes = FIRSTFRAME_LANES;
constexpr int64_t kColumns = 2 * kLanes;
constexpr int64_t kAhead = 16 * kColumns;  // panels come from the second cache

INLINE Vector Load(const float* from) {
  Vector value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <int kRows, bool kByColumn>
void Sums(const Tile& tile) {
  Vector sums[kRows][2];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; m++) {
    const float* start = tile.start + m * tile.startStep;
    sums[m][0] = tile.start ? Load(start) : Vector{};
    sums[m][1] = tile.start ? Load(start + kLanes) : Vector{};
  }
  const float* b = tile.b;
  const int64_t step = tile.step;
  for (int64_t tap = 0; tap < tile.taps; tap++) {
    const float* a = tile.a + (tile.offsets ? tile.offsets[tap] : 0);
    for (int64_t k = 0; k < tile.depth; k++, b += kColumns, a += kByColumn ? step : 1) {
      __builtin_prefetch(b + kAhead);
      if (kColumns > 16) __builtin_prefetch(b + kAhead + 16);
      const Vector left = Load(b), right = Load(b + kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < kRows; m++) {
        const float factor = kByColumn ? a[m] : a[m * step];
        sums[m][0] += left * factor;
        sums[m][1] += right * factor;
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; m++) {
    memcpy(tile.c + m * tile.cStep, &sums[m][0], sizeof(Vector));
    memcpy(tile.c + m * tile.cStep + kLanes, &sums[m][1], sizeof(Vector));
  }
}

template <bool kByColumn, int... I>
const Function* Table(std::integer_sequence<int, I...>) {
  static const Function table[] = {Sums<I + 1, kByColumn>...};
  return table;
}

// Nothing of the standard library is compiled here but for constants: its functions are shared between all sources, and
// the linker would keep one for a processor that another machine does not have.
const Processor& Functions() {
  constexpr auto rows = std::make_integer_sequence<int, FIRSTFRAME_ROWS>();
  static const Processor processor{FIRSTFRAME_ROWS, kColumns, Table<false>(rows), Table<true>(rows)};
  return processor;
}

}  // namespace FIRSTFRAME_KIND
}  // namespace firstframe
