#include "../ptx/tensor_map.cuh"

namespace PK_BUILD {

int32_t TensorGeometry::encode(const char* what, const TensorBox& from, uint32_t element_size) {
  const auto refuse = [&](const char* reason, uint64_t value) {
    return fail(PK_ERROR_CUDA, "%s: the driver would refuse this tensor map: %s (%llu)", what, reason, static_cast<unsigned long long>(value));
  };
  *this = TensorGeometry();
  if (from.axes < 1 || from.axes > 4) return refuse("not 1 to 4 axes", from.axes);
  if (from.data == nullptr || reinterpret_cast<uintptr_t>(from.data) % 16 != 0) return refuse("the data are not aligned to 16 bytes", reinterpret_cast<uintptr_t>(from.data) % 16);
  for (uint32_t axis = 0; axis < 4; ++axis) {
    const bool used = axis < from.axes;
    if (used && (from.extents[axis] < 1 || from.extents[axis] > uint64_t{1} << 32)) return refuse("an extent is not 1 to 2^32", from.extents[axis]);
    if (used && (from.box[axis] < 1 || from.box[axis] > 256)) return refuse("an extent of the box is not 1 to 256", from.box[axis]);
    last_[axis] = used ? static_cast<uint32_t>(from.extents[axis] - 1) : 0;
    box_[axis] = used ? static_cast<uint16_t>(from.box[axis]) : 1;
    if (axis == 0 || !used) continue;
    const uint64_t stride = from.stride_bytes[axis - 1];
    if (stride % 16 != 0 || stride >= uint64_t{1} << 40) return refuse("a stride is not a multiple of 16 bytes below 2^40", stride);
    strides_[axis - 1] = stride;
  }
  const uint32_t row = from.box[0] * element_size;
  if (row % 16 != 0) return refuse("the rows of the box are no multiple of 16 bytes", row);
  if (from.swizzle != Swizzle::none && row > swizzle_bytes(from.swizzle)) return refuse("the rows of the box are longer than the lines of the swizzle, in bytes", row);
  if (from.swizzle != Swizzle::none && row < swizzle_bytes(from.swizzle)) {
    return fail(PK_ERROR_CUDA, "%s: rows of %u bytes in a swizzle of %u: the emulator knows only whole lines", what, row, swizzle_bytes(from.swizzle));
  }
  data_ = static_cast<char*>(const_cast<void*>(from.data));
  axes_ = from.axes;
  element_bytes_ = element_size;
  swizzle_ = from.swizzle;
  magic_ = magic;
  return PK_OK;
}

}  // namespace PK_BUILD
