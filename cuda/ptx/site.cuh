// A last parameter for every primitive: in the emulator the place that called it, on a device nothing. A device function that wants its caller named in reports takes PK_COMMA_SITE
// itself and passes PK_COMMA_FROM on (PK_FROM as the only one).
#pragma once

#include "../core/build.h"

#if PK_EMULATED
#include "../emulator/block.h"
#define PK_SITE ::PK_BUILD::Site pk_site = ::PK_BUILD::Site::here()
#define PK_COMMA_SITE , PK_SITE
#define PK_FROM pk_site
#define PK_COMMA_FROM , PK_FROM
#else
#define PK_SITE
#define PK_COMMA_SITE
#define PK_FROM
#define PK_COMMA_FROM
#endif
