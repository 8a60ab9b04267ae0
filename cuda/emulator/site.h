// The place in a kernel that called a primitive: file and line.
#pragma once

#include <cstdint>

#include "../core/build.h"

namespace PK_BUILD {

struct Site {
  const char* file;
  int line;
  // A member function, because g++ 12 takes the wrong line from a default argument Site{__builtin_FILE(), __builtin_LINE()}.
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

bool operator==(const Site& left, const Site& right);
inline bool operator!=(const Site& left, const Site& right) { return !(left == right); }

// Places in kernels as small numbers, the same in all blocks.
uint16_t new_site_number(Site site);
Site site_of_number(uint16_t number);

class SiteNumbers {
 public:
  uint16_t of(Site site) {
    Known& known = known_[static_cast<uint32_t>(site.line) % count];
    if (known.site.line != site.line || known.site.file != site.file) known = {site, new_site_number(site)};
    return known.number;
  }

 private:
  struct Known {
    Site site;
    uint16_t number;
  };
  static constexpr uint32_t count = 256;
  Known known_[count] = {};
};

}  // namespace PK_BUILD
