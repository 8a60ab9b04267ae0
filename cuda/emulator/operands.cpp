#include "operands.h"

#include <algorithm>

namespace PK_BUILD {

namespace {

uint64_t bytes_of_element(int32_t type) { return type == PK_F64 ? 8 : type == PK_F16 || type == PK_BF16 ? 2 : 4; }

// The same search among the runs below axis `level`, with an offset from where they start.
bool find_offset(const Operand& operand, int level, uint64_t offset, uint64_t bytes, uint64_t* run_offset) {
  if (level < 0) return offset + bytes <= operand.run_bytes;
  uint64_t span = operand.run_bytes;
  for (int i = 0; i < level; ++i) span += (operand.axes[i].count - 1) * operand.axes[i].stride;
  const Operand::Axis& axis = operand.axes[level];
  // One candidate, unless what the axis repeats is longer than its stride (interleaved batches).
  for (uint64_t index = std::min(offset / axis.stride, axis.count - 1); offset - index * axis.stride < span; --index) {
    uint64_t below = 0;
    if (find_offset(operand, level - 1, offset - index * axis.stride, bytes, &below)) {
      *run_offset = index * axis.stride + below;
      return true;
    }
    if (index == 0) break;
  }
  return false;
}

std::string plural(uint64_t count, const char* noun) { return std::to_string(count) + " " + noun + (count == 1 ? "" : "s"); }

// Where in the gaps of an operand an address lies: "2 bytes past the end of row 3".
std::string describe_gap(const Operand& operand, uint64_t offset) {
  std::string place;
  for (int level = operand.axis_count - 1; level >= 0; --level) {
    const Operand::Axis& axis = operand.axes[level];
    const uint64_t index = std::min(offset / axis.stride, axis.count - 1);
    offset -= index * axis.stride;
    place = std::string(axis.name) + " " + std::to_string(index) + (place.empty() ? "" : " of " + place);
  }
  const uint64_t past = offset > operand.run_bytes ? offset - operand.run_bytes : 0;
  return (past > 0 ? plural(past, "byte") + " past" : "at") + std::string(" the end of ") + place;
}

}  // namespace

bool Operand::find_run(uintptr_t address, uint64_t bytes, uintptr_t* run_begin) const {
  if (address - begin >= span || bytes > span) return false;  // also when the address lies below: the difference wraps
  uint64_t run_offset = 0;
  if (!find_offset(*this, axis_count - 1, address - begin, bytes, &run_offset)) return false;
  *run_begin = begin + run_offset;
  return true;
}

void find_contended(const std::vector<Operand*>& operands) {
  for (Operand* operand : operands) operand->contended = false;
  for (Operand* operand : operands) {
    if (!operand->allows(Right::write)) continue;
    for (Operand* other : operands) other->contended = other->contended || operand->begin - other->begin < other->span || other->begin - operand->begin < operand->span;
  }
}

void Operands::add(const char* name, const pk_matrix& matrix, int64_t batch_count, Right right) {
  const std::string shape = " [" + std::to_string(matrix.rows) + ", " + std::to_string(matrix.columns) + (batch_count != 1 ? "] x " + std::to_string(batch_count) : "]");
  const bool empty = matrix.columns <= 0 || matrix.rows <= 0 || batch_count <= 0;
  const uint64_t element_bytes = bytes_of_element(matrix.element_type), least = empty ? 0 : element_bytes;
  Operand operand{name, shape, right, reinterpret_cast<uintptr_t>(matrix.data), element_bytes, least, least};
  struct {
    int64_t count, stride;
    const char* name;
  } axes[] = {{matrix.columns, matrix.column_stride, "column"}, {matrix.rows, matrix.row_stride, "row"}, {batch_count, matrix.batch_stride, "batch"}};
  std::sort(std::begin(axes), std::end(axes), [](const auto& left, const auto& right_axis) { return left.stride < right_axis.stride; });
  for (const auto& axis : axes) {
    if (empty || axis.count == 1 || axis.stride <= 0) continue;
    const uint64_t count = static_cast<uint64_t>(axis.count), stride = static_cast<uint64_t>(axis.stride) * element_bytes;
    operand.span += (count - 1) * stride;
    if (stride <= operand.run_bytes && operand.axis_count == 0) operand.run_bytes = operand.span;
    else operand.axes[operand.axis_count++] = {count, stride, axis.name};
  }
  all.push_back(std::move(operand));
}

void Operands::add(const char* name, const void* begin, uint64_t bytes, Right right) {
  all.push_back({name, " (" + plural(bytes, "byte") + ")", right, reinterpret_cast<uintptr_t>(begin), 1, bytes, bytes});
}

std::string describe_address(const std::vector<Operand>& operands, uintptr_t address) {
  for (const Operand& operand : operands) {
    uintptr_t run = 0;
    if (operand.find_run(address, 1, &run)) return "byte " + std::to_string(address - operand.begin) + " of " + operand.name + operand.shape;
  }
  return "global memory";
}

std::string describe_access(const std::vector<Operand>& operands, uintptr_t address, uint64_t bytes, Right wanted) {
  const std::string verb = wanted == Right::read ? "reads " : wanted == Right::write ? "writes " : "reads and writes ";
  const std::string what = verb + plural(bytes, "byte");
  if (address % bytes != 0) return what + " at an address that is " + plural(address % bytes, "byte") + " past a multiple of " + std::to_string(bytes);

  const auto distance = [&](const Operand& operand) {
    if (operand.span == 0 && operand.begin == 0) return ~uint64_t{0};
    return address < operand.begin ? operand.begin - address : address - operand.begin < operand.span ? 0 : address - operand.begin - operand.span;
  };
  uintptr_t run = 0;
  for (const Operand& operand : operands) {
    if (!operand.find_run(address, bytes, &run)) continue;
    const std::string name = operand.name + operand.shape;
    if (operand.allows(wanted)) return what + " that do not begin and end with elements of " + name;
    return what + " of " + name + ", which the launch declared only to be " + (operand.allows(Right::read) ? "read" : "written");
  }
  const auto nearest = std::min_element(operands.begin(), operands.end(), [&](const Operand& left, const Operand& right) { return distance(left) < distance(right); });
  if (nearest == operands.end() || distance(*nearest) == ~uint64_t{0}) return what + ", but the launch declared no operand";
  const std::string name = nearest->name + nearest->shape;
  if (address < nearest->begin) return what + ", " + plural(distance(*nearest), "byte") + " before the beginning of " + name;
  const uint64_t offset = address - nearest->begin;
  if (offset >= nearest->span) return what + (offset > nearest->span ? ", " + plural(offset - nearest->span, "byte") : "") + " past the end of " + name;
  if (nearest->find_run(address, 1, &run)) return what + " that begin in " + name + " but run over the end of it or of a row";
  return what + " in the padding of " + name + ", " + describe_gap(*nearest, offset);
}

}  // namespace PK_BUILD
