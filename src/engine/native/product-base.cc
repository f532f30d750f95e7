// Tiles of matrix products for any processor: vectors of 4 floats.

#include "product.h"

#define FIRSTFRAME_KIND base
#define FIRSTFRAME_LANES 4
#define FIRSTFRAME_ROWS 6
#include "product-kernels.h"
