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

// Whole rows at a time, as they lie in memory: of a panel's own columns alone the memory would hardly read ahead.
void PackRows(const float* b, int64_t step, int64_t depth, int64_t panels, float* packed) {
  constexpr int64_t kTogether = 8;  // panels whose lines share a set of the first cache
  constexpr int64_t kRowsAhead = 8;
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t end = first + kTogether < panels ? first + kTogether : panels;
    for (int64_t k = 0; k < depth; k++) {
      const float* row = b + k * step;
      for (int64_t panel = first; panel < end; panel++) {
        float* to = packed + (panel * depth + k) * kColumns;
        for (int64_t i = 0; i < kColumns; i += 16) __builtin_prefetch(row + kRowsAhead * step + panel * kColumns + i);
        const Vector left = Load(row + panel * kColumns), right = Load(row + panel * kColumns + kLanes);
        memcpy(to, &left, sizeof left);
        memcpy(to + kLanes, &right, sizeof right);
      }
    }
  }
}

// Exchanges the elements of two vectors that are off the diagonal of their blocks of kStep x kStep.
template <int kStep, int... J>
INLINE void Exchange(Vector& a, Vector& b, std::integer_sequence<int, J...>) {
  const Vector x = a, y = b;
  a = Vector{(J & kStep ? y[(J - kStep) & (kLanes - 1)] : x[J])...};
  b = Vector{(J & kStep ? y[J] : x[(J + kStep) & (kLanes - 1)])...};
}

// Transposes a square of vectors: in it squares of squares, the smallest first.
template <int kStep>
INLINE void Transpose(Vector* rows) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      if (!(i & kStep)) Exchange<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes>());
    }
    Transpose<2 * kStep>(rows);
  }
}

void PackColumns(const float* b, int64_t step, int64_t depth, int64_t panels, float* packed) {
  constexpr int64_t kColumnAhead = 32;
  for (int64_t panel = 0; panel < panels; panel++, b += kColumns * step, packed += depth * kColumns) {
    const int64_t whole = depth / kLanes * kLanes;
    for (int64_t k = 0; k < whole; k += kLanes) {
      for (int64_t half = 0; half < kColumns; half += kLanes) {
        const float* from = b + half * step + k;
        Vector square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) {
          square[i] = Load(from + i * step);
          __builtin_prefetch(from + i * step + kColumnAhead);
        }
        Transpose<1>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) memcpy(packed + (k + i) * kColumns + half, &square[i], sizeof(Vector));
      }
    }
    for (int64_t k = whole; k < depth; k++) {
      for (int64_t n = 0; n < kColumns; n++) packed[k * kColumns + n] = b[n * step + k];
    }
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
  static const Processor processor{FIRSTFRAME_ROWS, kColumns, Table<false>(rows), Table<true>(rows), PackRows, PackColumns};
  return processor;
}

}  // namespace FIRSTFRAME_KIND
}  // namespace firstframe
