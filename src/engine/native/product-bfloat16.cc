// Products whose factors are rounded to bfloat16 and whose sums are float32: in tiles (Intel's AMX), or in vectors
// (AVX512-BF16). Panels have as many columns as those of x86-64-v4, so that whoever parts a matrix need not know who
// multiplies.

#include "product.h"

#ifdef FIRSTFRAME_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#pragma GCC target("arch=x86-64-v4,avx512bf16,amx-tile,amx-bf16")
#include <immintrin.h>

// Of this, vectors and their transposition.
#define FIRSTFRAME_KIND bfloat16
#define FIRSTFRAME_LANES 16
#define FIRSTFRAME_ROWS 1
#include "product-kernels.h"

namespace firstframe {
namespace bfloat16 {

constexpr int64_t kPanel = kHalfColumns;  // columns: two tiles
constexpr int64_t kStep = 32;   // of the depth, that a tile takes at a time
constexpr int64_t kTile = 512;  // halves in a tile: 16 rows of 32

int64_t Padded(int64_t depth) { return (depth + kStep - 1) / kStep * kStep; }

// A piece of a is converted at a time, and stays in the second cache while panels go by.
constexpr int64_t kRows = 256, kDepth = 1024;
constexpr int64_t kTogether = 8;  // panels that are gone through together
constexpr int64_t kLine = kDepth + 32;  // rows are off each other's lines of the cache

// The system saves tiles only for processes that have asked for them.
Instructions Fastest() {
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned a, b, c, d;
  if (!__builtin_cpu_supports("x86-64-v4") || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return Instructions::kNone;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return Instructions::kNone;
  const bool tiles = (d >> 24 & 1) && (d >> 22 & 1);
  return tiles && syscall(SYS_arch_prctl, kRequest, kTileData) == 0 ? Instructions::kTiles : Instructions::kVectors;
}

INLINE __m512 Part(const float* from, int64_t n) {
  if (n >= 16) return _mm512_loadu_ps(from);
  return n <= 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((1u << n) - 1, from);
}

INLINE __m512i Rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// Of 16 halves and another 16: one of each in turn.
INLINE __m512i InTurn(__m512i both) {
  alignas(64) static const Half order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                             8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), both);
}

// 16 lines of 32 numbers along the depth become a tile: 16 rows, one a pair of depths, of the lines' pairs.
INLINE void Turn(const float* from, int64_t step, int64_t lines, int64_t depth, Half* to) {
  Vector square[16];
  for (int i = 0; i < 16; i++) {
    const float* line = from + i * step;
    const __m512i pairs = i < lines ? Rounded(Part(line, depth), Part(line + 16, depth - 16)) : _mm512_setzero_si512();
    memcpy(&square[i], &pairs, 64);
  }
  Transpose<1>(square);
  for (int i = 0; i < 16; i++) memcpy(to + i * 32, &square[i], 64);
}

void Pack(const Matrix& b, int64_t depth, int64_t columns, Half* packed, int64_t panelStep) {
  const int64_t padded = Padded(depth), panels = (columns + kPanel - 1) / kPanel;
  const auto panelAt = [=](int64_t panel) { return packed + panel * panelStep; };
  if (b.byColumn) {
    for (int64_t panel = 0; panel < panels; panel++) {
      Half* to = panelAt(panel);
      for (int64_t k = 0; k < padded; k += kStep) {
        for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; n += 16, to += kTile) {
          if (n < columns) Turn(b.data + n * b.step + k, b.step, columns - n, depth - k, to);
          else memset(to, 0, sizeof(Half) * kTile);
        }
      }
    }
    return;
  }
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t end = first + kTogether < panels ? first + kTogether : panels;
    for (int64_t k = 0; k < padded; k += 2) {
      for (int64_t panel = first; panel < end; panel++) {
        Half* to = panelAt(panel) + k / kStep * 2 * kTile + k % kStep / 2 * 32;
        for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; n += 16, to += kTile) {
          const float* from = b.data + k * b.step + n;
          const __m512 low = k < depth ? Part(from, columns - n) : _mm512_setzero_ps();
          const __m512 high = k + 1 < depth ? Part(from + b.step, columns - n) : _mm512_setzero_ps();
          __builtin_prefetch(from + 8 * b.step);
          _mm512_store_si512(to, InTurn(Rounded(low, high)));
        }
      }
    }
  }
}

// Constant, since the compiler does not see that more than the first bytes are read.
alignas(64) static const struct {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} kShapes;

// A piece of a as halves, row by row; filled up with zeros to whole tiles.
static void Convert(const Matrix& a, int64_t row, int64_t rows, int64_t from, int64_t depth, Half* near) {
  const int64_t padded = Padded(depth), full = (rows + 31) / 32 * 32;
  if (!a.byColumn) {
    for (int64_t i = 0; i < full; i++) {
      const float* line = a.data + (row + i) * a.step + from;
      for (int64_t k = 0; k < padded; k += 32) {
        const __m512i both =
            i < rows ? Rounded(Part(line + k, depth - k), Part(line + k + 16, depth - k - 16)) : _mm512_setzero_si512();
        _mm512_storeu_si512(near + i * kLine + k, both);
      }
    }
    return;
  }
  for (int64_t k = 0; k < padded; k += 32) {
    for (int64_t i = 0; i < full; i += 16) {  // 16 pairs of depths for 16 rows
      Vector square[16];
      for (int64_t pair = 0; pair < 16; pair++) {
        const int64_t at = k + 2 * pair;
        const float* line = a.data + (from + at) * a.step + row + i;
        const __m512 low = at < depth ? Part(line, rows - i) : _mm512_setzero_ps();
        const __m512 high = at + 1 < depth ? Part(line + a.step, rows - i) : _mm512_setzero_ps();
        __builtin_prefetch(line + kStep * a.step);
        __builtin_prefetch(line + (kStep + 1) * a.step);
        const __m512i pairs = InTurn(Rounded(low, high));
        memcpy(&square[pair], &pairs, 64);
      }
      Transpose<1>(square);
      for (int64_t j = 0; j < 16; j++) memcpy(near + (i + j) * kLine + k, &square[j], 64);
    }
  }
}

// A square of 32 x 32 sums, of which the lower half may not be wanted.
struct Square {
  const float* start;
  int64_t startStep;
  float* end;
  int64_t endStep;
  bool upperOnly;
};

// What a square sums: for each tap, rows of a from an offset on, times rows of b that follow those of the tap before.
struct Rows {
  const Half* a;
  int64_t step;  // from one row of a to the next
  const int64_t* offsets;
  int64_t taps, padded;  // of each tap: a whole number of kStep
  const Half* b;
  int64_t tapStep;  // from one tap's rows of b to the next's
};

static void SumInTiles(const Rows& rows, const Square& square) {
  const float* from = square.start;
  if (from) {
    const int64_t step = square.startStep;
    _tile_loadd(0, from, step * 4);
    _tile_loadd(1, from + 16, step * 4);
    if (!square.upperOnly) {
      _tile_loadd(2, from + 16 * step, step * 4);
      _tile_loadd(3, from + 16 * step + 16, step * 4);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int64_t line = rows.step * 2;
  for (int64_t tap = 0; tap < rows.taps; tap++) {
    const Half* upper = rows.a + rows.offsets[tap];
    const Half* lower = upper + 16 * rows.step;
    const Half* b = rows.b + tap * rows.tapStep;
    if (square.upperOnly) {
      for (int64_t k = 0; k < rows.padded; k += kStep, b += 2 * kTile) {
        _tile_loadd(4, upper + k, line);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b + kTile, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
      }
      continue;
    }
    for (int64_t k = 0; k < rows.padded; k += kStep, b += 2 * kTile) {
      _tile_loadd(4, upper + k, line);
      _tile_loadd(6, b, 64);
      _tile_loadd(5, lower + k, line);
      _tile_loadd(7, b + kTile, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, square.end, square.endStep * 4);
  _tile_stored(1, square.end + 16, square.endStep * 4);
  if (square.upperOnly) return;
  _tile_stored(2, square.end + 16 * square.endStep, square.endStep * 4);
  _tile_stored(3, square.end + 16 * square.endStep + 16, square.endStep * 4);
}

static void SumInVectors(const Rows& rows, const Square& square) {
  constexpr int kTall = 8;
  for (int row = 0; row < (square.upperOnly ? 16 : 32); row += kTall) {
    __m512 sums[kTall][2];
#pragma GCC unroll 8
    for (int m = 0; m < kTall; m++) {
      const float* from = square.start + (row + m) * square.startStep;
      sums[m][0] = square.start ? _mm512_loadu_ps(from) : _mm512_setzero_ps();
      sums[m][1] = square.start ? _mm512_loadu_ps(from + 16) : _mm512_setzero_ps();
    }
    for (int64_t tap = 0; tap < rows.taps; tap++) {
      const Half* a = rows.a + row * rows.step + rows.offsets[tap];
      const Half* b = rows.b + tap * rows.tapStep;
      for (int64_t k = 0; k < rows.padded; k += kStep, b += 2 * kTile) {
        for (int64_t pair = 0; pair < 16; pair++) {
          const __m512bh left = (__m512bh)_mm512_loadu_si512(b + pair * 32);
          const __m512bh right = (__m512bh)_mm512_loadu_si512(b + kTile + pair * 32);
#pragma GCC unroll 8
          for (int m = 0; m < kTall; m++) {
            int32_t both;
            memcpy(&both, a + m * rows.step + k + 2 * pair, sizeof both);
            const __m512bh factors = (__m512bh)_mm512_set1_epi32(both);
            sums[m][0] = _mm512_dpbf16_ps(sums[m][0], factors, left);
            sums[m][1] = _mm512_dpbf16_ps(sums[m][1], factors, right);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < kTall; m++) {
      float* to = square.end + (row + m) * square.endStep;
      _mm512_storeu_ps(to, sums[m][0]);
      _mm512_storeu_ps(to + 16, sums[m][1]);
    }
  }
}

static auto Summing() { return Bfloat16Instructions() == Instructions::kTiles ? SumInTiles : SumInVectors; }

// Tiles are this thread's as long as one of these lives.
class Tiles {
 public:
  Tiles() : used_(Bfloat16Instructions() == Instructions::kTiles) {
    if (used_) _tile_loadconfig(&kShapes);
  }
  ~Tiles() {
    if (used_) _tile_release();
  }

 private:
  const bool used_;
};

// The panels of the transposed matrix that are of b's rows from 32 * begin to 32 * end.
void Turn(const Halves& b, int64_t begin, int64_t end, Half* turned) {
  alignas(64) static const Half order[2][32] = {
      {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  const __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
  const int64_t panels = (b.columns + kPanel - 1) / kPanel, panelStep = Padded(b.depth) * kPanel;
  for (int64_t step = begin; step < end; step++) {
    for (int64_t panel = 0; panel < panels; panel++) {
      const Half* from = b.data + panel * panelStep + step * 2 * kTile;
      for (int half = 0; half < 2; half++, from += kTile) {
        Vector square[16];  // a line for each of b's columns: 32 numbers along its rows
        for (int i = 0; i < 16; i++) memcpy(&square[i], from + i * 32, 64);
        Transpose<1>(square);
        Half* to = turned + (step - begin) * panels * 2 * kTile + panel * 2 * kTile + half * 8 * 32;
        for (int pair = 0; pair < 8; pair++, to += 32) {
          __m512i even, odd;
          memcpy(&even, &square[2 * pair], 64);
          memcpy(&odd, &square[2 * pair + 1], 64);
          _mm512_storeu_si512(to, _mm512_permutex2var_epi16(even, low, odd));
          _mm512_storeu_si512(to + kTile, _mm512_permutex2var_epi16(even, high, odd));
        }
      }
    }
  }
}

int64_t Scratch() { return kRows * kLine / 2 + 32 * 32; }

void Multiply(const Matrix& a, int64_t rows, int64_t depth, const Half* packed, int64_t panelStep, int64_t columns, Start start,
              float* c, int64_t cStep, float* scratch) {
  const auto sum = Summing();
  const Tiles tiles;
  const int64_t nowhere = 0;
  Half* near = reinterpret_cast<Half*>(scratch);
  float* edge = scratch + kRows * kLine / 2;  // a square that is not whole is computed here
  for (int64_t row = 0; row < rows; row += kRows) {
    const int64_t high = rows - row < kRows ? rows - row : kRows;
    for (int64_t from = 0; from < depth; from += kDepth) {
      const int64_t length = depth - from < kDepth ? depth - from : kDepth;
      const Start sums = from > 0 ? Start{c, cStep} : start;
      Convert(a, row, high, from, length, near);
      // Panels stay in the second cache for all these rows, and long pieces of c's rows are written one after another.
      for (int64_t group = 0; group < columns; group += kTogether * kPanel) {
        const int64_t last = columns - group < kTogether * kPanel ? columns : group + kTogether * kPanel;
        for (int64_t i = 0; i < high; i += 32) {
          const int64_t tall = high - i < 32 ? high - i : 32;
          for (int64_t n = group; n < last; n += kPanel) {
            const Half* panel = packed + n / kPanel * panelStep + from / kStep * 2 * kTile;
            const int64_t wide = columns - n < kPanel ? columns - n : kPanel;
            const float* begin = sums.data ? sums.data + (row + i) * sums.step + n : nullptr;
            float* target = c + (row + i) * cStep + n;
            const Rows factors{near + i * kLine, kLine, &nowhere, 1, Padded(length), panel, 0};
            if (wide == 32 && tall == 32) {
              sum(factors, {begin, sums.step, target, cStep, false});
              continue;
            }
            for (int64_t j = 0; begin && j < tall; j++) memcpy(edge + j * 32, begin + j * sums.step, sizeof(float) * wide);
            sum(factors, {begin ? edge : nullptr, 32, edge, 32, tall <= 16});
            for (int64_t j = 0; j < tall; j++) memcpy(target + j * cStep, edge + j * 32, sizeof(float) * wide);
          }
        }
      }
    }
  }
}

void ToHalves(const float* from, int64_t n, Half* to) {
  for (int64_t i = 0; i < n; i += 32) {
    const __m512i both = Rounded(Part(from + i, n - i), Part(from + i + 16, n - i - 16));
    _mm512_storeu_si512(to + i, both);
  }
}

void Convolve(const Convolution& convolution, const Half* image, int64_t positions, float* sums) {
  const Tiles tiles;
  const auto sum = Summing();
  const Halves& kernel = convolution.kernel;
  // As many panels together as the second cache has room for, over all taps.
  const int64_t bytes = kernel.panelSize() * convolution.taps * sizeof(Half);
  const int64_t together = bytes < (1 << 20) ? (1 << 20) / bytes : 1;
  float starts[kPanel * 32];
  for (int64_t group = 0; group < kernel.panels(); group += together) {
    const int64_t last = group + together < kernel.panels() ? group + together : kernel.panels();
    for (int64_t i = 0; i < positions; i += 32) {
      for (int64_t panel = group; panel < last; panel++) {
        const Rows rows{image + i * convolution.step, convolution.step,  convolution.offsets, convolution.taps,
                        kernel.steps() * kStep,       kernel.data + panel * kernel.panelSize(), kernel.size()};
        for (int row = 0; row < 32; row++) memcpy(starts + row * kPanel, convolution.bias + panel * kPanel, sizeof(float) * kPanel);
        const bool upperOnly = positions - i <= 16;
        sum(rows, {starts, kPanel, sums + i * convolution.sumStep + panel * kPanel, convolution.sumStep, upperOnly});
      }
    }
  }
}

}  // namespace bfloat16
}  // namespace firstframe
#endif
