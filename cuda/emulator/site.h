// The place in a kernel that called a primitive: file and line.
#pragma once

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

}  // namespace PK_BUILD
