// Tiles of matrix products for x86-64-v3.

#include "product.h"

#ifdef FIRSTFRAME_X86
#pragma GCC target("arch=x86-64-v3")

#define FIRSTFRAME_KIND v3
#define FIRSTFRAME_LANES 8
#define FIRSTFRAME_ROWS 6
#include "product-kernels.h"

#endif
