// Tiles of matrix products for x86-64-v4.

#include "product.h"

#ifdef FIRSTFRAME_X86
#pragma GCC target("arch=x86-64-v4")

#define FIRSTFRAME_KIND v4
#define FIRSTFRAME_LANES 16
#define FIRSTFRAME_ROWS 14
#include "product-kernels.h"

#endif
