"""The C interface for ctypes. Made from cuda/include/peft_kernels.h by make_abi.py: do not edit."""

import ctypes

PK_ABI_VERSION = 1
PK_OK = 0
PK_ERROR_VERSION = -1
PK_ERROR_ARGUMENT = -2
PK_ERROR_ELEMENT_TYPE = -3
PK_ERROR_WORKSPACE = -4
PK_ERROR_NOT_BUILT = -5
PK_ERROR_NO_DEVICE = -6
PK_ERROR_CUDA = -7
PK_ERROR_EMULATOR = -8
PK_ERROR_ALGORITHM = -9
PK_F32 = 1
PK_F16 = 2
PK_BF16 = 3
PK_F64 = 4
PK_QUEUE_EMULATOR = 1
PK_QUEUE_CUDA = 2
PK_STREAM_LEGACY = 1
PK_STREAM_PER_THREAD = 2
PK_FAILURE_ADAPTER_INDEX = 1
PK_FAILURE_ADAPTER_RANK = 2
PK_FAILURE_ZERO_NORM = 3
PK_FAILURE_SAMPLE = 4
PK_FAILURE_RANK = 5
PK_FAILURE_ZERO_MAGNITUDE = 6
PK_FAILURE_ZERO_ROW_SCALE = 7
PK_WORKSPACE_ALIGNMENT = 256
PK_FLAG_ALLOW_TF32 = 1
PK_FLAG_ALLOW_ATOMICS = 2
PK_FLAG_BATCH_INVARIANT = 4
PK_LORA_BASE_NONE = 0
PK_LORA_BASE_DENSE = 1
PK_LORA_BASE_IN_Y = 2
PK_LORA_BASE_QUANTIZED = 3
PK_LORA_MIDDLE_RANKS = 1
PK_LORA_MIDDLE_HOST_RANKS = 2
PK_LORA_MIDDLE_SCALE = 4
PK_LORA_MIDDLE_GATE = 8
PK_LORA_MIDDLE_CORE = 16
PK_GRADIENT_NONE = 0
PK_GRADIENT_OVERWRITE = 1
PK_GRADIENT_ACCUMULATE = 2
PK_LORA_BACKWARD_TARGETS = 8
PK_LORA_MERGE_ADAPTERS = 64
PK_LORA_COTANGENT_X = 1
PK_LORA_COTANGENT_A = 2
PK_LORA_COTANGENT_B = 4
PK_HAAR_ALONG_COLUMNS = 1
PK_HAAR_ALONG_ROWS = 2
PK_HAAR_ALONG_BOTH = 3
PK_HAAR_BOUNDARY_NONE = 0
PK_HAAR_BOUNDARY_ZERO = 1
PK_HAAR_BOUNDARY_EDGE = 2
PK_HAAR_BOUNDARY_SYMMETRIC = 3
PK_HAAR_BOUNDARY_PERIODIC = 4
PK_HAAR_MALLAT = 0
PK_HAAR_INTERLEAVED = 1
PK_HAAR_ORTHONORMAL = 0
PK_HAAR_SUMS = 1
PK_HAAR_HADAMARD_COLUMNS = 32768
PK_HAAR_WARA_WEIGHT = 0
PK_HAAR_WARA_ACTIVATION = 1
PK_HAAR_WARA_LEVELS = 6


class pk_queue(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("kind", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("stream", ctypes.c_uint64),
    ]


class pk_matrix(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("batch_stride", ctypes.c_int64),
        ("element_type", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


class pk_status_record(ctypes.Structure):
    _fields_ = [
        ("failure", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 3),
    ]


class pk_kernel_choice(ctypes.Structure):
    _fields_ = [
        ("algorithm", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("rounding_steps", ctypes.c_int64),
        ("name", ctypes.c_char * 48),
    ]


class pk_chip(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("compute_capability", ctypes.c_int32),
        ("multiprocessors", ctypes.c_int32),
        ("shared_memory_per_block", ctypes.c_int64),
    ]


class pk_lora_adapter(ctypes.Structure):
    _fields_ = [
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("a_row_stride", ctypes.c_int64),
        ("a_column_stride", ctypes.c_int64),
        ("b_row_stride", ctypes.c_int64),
        ("b_column_stride", ctypes.c_int64),
        ("rank", ctypes.c_int32),
        ("scale", ctypes.c_float),
    ]


class pk_lora_segment(ctypes.Structure):
    _fields_ = [
        ("row_begin", ctypes.c_int64),
        ("row_end", ctypes.c_int64),
        ("adapter", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


class pk_dropout(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("probability", ctypes.c_float),
        ("reserved", ctypes.c_int32),
    ]


class pk_samples(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("offsets", ctypes.c_void_p),
    ]


class pk_lora_code_book(ctypes.Structure):
    _fields_ = [
        ("values", ctypes.c_void_p),
        ("boundaries", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("bits", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


class pk_lora_quantized(ctypes.Structure):
    _fields_ = [
        ("codes", ctypes.c_void_p),
        ("code_bytes", ctypes.c_int64),
        ("absmax", ctypes.c_void_p),
        ("absmax_count", ctypes.c_int64),
        ("absmax_codes", ctypes.c_void_p),
        ("absmax_code_count", ctypes.c_int64),
        ("absmax_offset", ctypes.c_void_p),
        ("book", pk_lora_code_book),
        ("absmax_book", pk_lora_code_book),
        ("block", ctypes.c_int32),
        ("absmax_block", ctypes.c_int32),
        ("short_block", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


class pk_lora_middle(ctypes.Structure):
    _fields_ = [
        ("has", ctypes.c_uint32),
        ("reserved", ctypes.c_int32),
        ("ranks", ctypes.c_void_p),
        ("rank_count", ctypes.c_int64),
        ("scale", pk_matrix),
        ("gate", pk_matrix),
        ("core", pk_matrix),
    ]


class pk_lora_target(ctypes.Structure):
    _fields_ = [
        ("base", ctypes.c_int32),
        ("adapter_element_type", ctypes.c_int32),
        ("w", pk_matrix),
        ("y", pk_matrix),
        ("bias", pk_matrix),
        ("a", pk_matrix),
        ("b", pk_matrix),
        ("scale", ctypes.c_float),
        ("reserved", ctypes.c_int32),
        ("adapters", ctypes.POINTER(pk_lora_adapter)),
        ("adapter_count", ctypes.c_int64),
        ("max_rank", ctypes.c_int64),
        ("saved_h", pk_matrix),
        ("row_scale", pk_matrix),
        ("middle", pk_lora_middle),
        ("quantized", pk_lora_quantized),
    ]


class pk_lora_forward_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("target_size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("x", pk_matrix),
        ("targets", ctypes.POINTER(pk_lora_target)),
        ("target_count", ctypes.c_int64),
        ("row_adapter", ctypes.c_void_p),
        ("segments", ctypes.POINTER(pk_lora_segment)),
        ("segment_count", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("status", ctypes.POINTER(pk_status_record)),
        ("dropout", pk_dropout),
        ("slab_bytes", ctypes.c_int64),
    ]


class pk_lora_adapter_gradient(ctypes.Structure):
    _fields_ = [
        ("da", ctypes.c_void_p),
        ("db", ctypes.c_void_p),
        ("da_row_stride", ctypes.c_int64),
        ("da_column_stride", ctypes.c_int64),
        ("db_row_stride", ctypes.c_int64),
        ("db_column_stride", ctypes.c_int64),
    ]


class pk_lora_gradient_target(ctypes.Structure):
    _fields_ = [
        ("base", ctypes.c_int32),
        ("adapter_element_type", ctypes.c_int32),
        ("w", pk_matrix),
        ("dy", pk_matrix),
        ("a", pk_matrix),
        ("b", pk_matrix),
        ("scale", ctypes.c_float),
        ("h_saved", ctypes.c_int32),
        ("h", pk_matrix),
        ("a_gradient", ctypes.c_int32),
        ("b_gradient", ctypes.c_int32),
        ("bias_gradient", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("da", pk_matrix),
        ("db", pk_matrix),
        ("dbias", pk_matrix),
        ("middle", pk_lora_middle),
        ("scale_gradient", ctypes.c_int32),
        ("gate_gradient", ctypes.c_int32),
        ("core_gradient", ctypes.c_int32),
        ("middle_reserved", ctypes.c_int32),
        ("dscale", pk_matrix),
        ("dgate", pk_matrix),
        ("dcore", pk_matrix),
        ("row_scale", pk_matrix),
        ("quantized", pk_lora_quantized),
        ("adapters", ctypes.POINTER(pk_lora_adapter)),
        ("adapter_count", ctypes.c_int64),
        ("max_rank", ctypes.c_int64),
        ("gradients", ctypes.POINTER(pk_lora_adapter_gradient)),
    ]


class pk_lora_backward_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("target_size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("x", pk_matrix),
        ("dx", pk_matrix),
        ("targets", ctypes.POINTER(pk_lora_gradient_target)),
        ("target_count", ctypes.c_int64),
        ("x_gradient", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("dropout", pk_dropout),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("samples", pk_samples),
        ("sample_weights", ctypes.c_void_p),
        ("status", ctypes.POINTER(pk_status_record)),
        ("slab_bytes", ctypes.c_int64),
        ("row_adapter", ctypes.c_void_p),
        ("segments", ctypes.POINTER(pk_lora_segment)),
        ("segment_count", ctypes.c_int64),
    ]


class pk_lora_sample_norm_target(ctypes.Structure):
    _fields_ = [
        ("adapter_element_type", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("dy", pk_matrix),
        ("a", pk_matrix),
        ("b", pk_matrix),
        ("a_counts", ctypes.c_int32),
        ("b_counts", ctypes.c_int32),
        ("bias_counts", ctypes.c_int32),
        ("h_saved", ctypes.c_int32),
        ("h", pk_matrix),
    ]


class pk_lora_sample_norms_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("target_size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("x", pk_matrix),
        ("targets", ctypes.POINTER(pk_lora_sample_norm_target)),
        ("target_count", ctypes.c_int64),
        ("dropout", pk_dropout),
        ("samples", pk_samples),
        ("squares", ctypes.c_void_p),
        ("mode", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("status", ctypes.POINTER(pk_status_record)),
    ]


class pk_lora_clip_weights_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("squares", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("max_norm", ctypes.c_float),
        ("reserved", ctypes.c_int32),
    ]


class pk_lora_add_noise_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("gradient", pk_matrix),
        ("seed", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("scale", ctypes.c_float),
        ("reserved", ctypes.c_int32),
    ]


class pk_lora_merge_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("source", pk_matrix),
        ("destination", pk_matrix),
        ("adapters", ctypes.POINTER(pk_lora_adapter)),
        ("adapter_count", ctypes.c_int64),
        ("adapter_element_type", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("residual", pk_matrix),
        ("middles", ctypes.POINTER(pk_lora_middle)),
        ("row_scale", pk_matrix),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("status", ctypes.POINTER(pk_status_record)),
    ]


class pk_lora_weight_norm_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("w", pk_matrix),
        ("adapters", ctypes.POINTER(pk_lora_adapter)),
        ("adapter_count", ctypes.c_int64),
        ("adapter_element_type", ctypes.c_int32),
        ("eps", ctypes.c_float),
        ("norm", ctypes.c_void_p),
        ("norm_count", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("status", ctypes.POINTER(pk_status_record)),
        ("magnitude", ctypes.c_void_p),
        ("row_scale", ctypes.c_void_p),
    ]


class pk_lora_magnitude_gradient_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("dy", pk_matrix),
        ("y", pk_matrix),
        ("bias", pk_matrix),
        ("magnitude", pk_matrix),
        ("dmagnitude", pk_matrix),
        ("mode", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
        ("status", ctypes.POINTER(pk_status_record)),
    ]


class pk_lora_double_backward_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("base", ctypes.c_int32),
        ("adapter_element_type", ctypes.c_int32),
        ("x", pk_matrix),
        ("dy", pk_matrix),
        ("w", pk_matrix),
        ("a", pk_matrix),
        ("b", pk_matrix),
        ("scale", ctypes.c_float),
        ("cotangents", ctypes.c_uint32),
        ("ux", pk_matrix),
        ("ua", pk_matrix),
        ("ub", pk_matrix),
        ("dy_gradient", ctypes.c_int32),
        ("x_gradient", ctypes.c_int32),
        ("a_gradient", ctypes.c_int32),
        ("b_gradient", ctypes.c_int32),
        ("ddy", pk_matrix),
        ("dx", pk_matrix),
        ("da", pk_matrix),
        ("db", pk_matrix),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
    ]


class pk_lora_quantize_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("matrix", pk_matrix),
        ("codes", ctypes.c_void_p),
        ("code_bytes", ctypes.c_int64),
        ("absmax", ctypes.c_void_p),
        ("absmax_count", ctypes.c_int64),
        ("absmax_codes", ctypes.c_void_p),
        ("absmax_code_count", ctypes.c_int64),
        ("absmax_offset", ctypes.c_void_p),
        ("book", pk_lora_code_book),
        ("absmax_book", pk_lora_code_book),
        ("block", ctypes.c_int32),
        ("absmax_block", ctypes.c_int32),
        ("short_block", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
    ]


class pk_haar_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("source", pk_matrix),
        ("destination", pk_matrix),
        ("axes", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("boundary", ctypes.c_int32),
        ("layout", ctypes.c_int32),
        ("scaling", ctypes.c_int32),
        ("adjoint", ctypes.c_int32),
    ]


class pk_haar_hadamard_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("batch_count", ctypes.c_int64),
        ("source", pk_matrix),
        ("destination", pk_matrix),
        ("before", pk_matrix),
        ("after", pk_matrix),
        ("normalized", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


class pk_haar_wara_adapter(ctypes.Structure):
    _fields_ = [
        ("a", ctypes.POINTER(pk_matrix)),
        ("b", ctypes.POINTER(pk_matrix)),
        ("gains", ctypes.c_void_p),
        ("factor_count", ctypes.c_int64),
        ("mode", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("boundary", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("grid_rows", ctypes.c_int64),
        ("grid_columns", ctypes.c_int64),
    ]


class pk_haar_wara_forward_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("adapter", pk_haar_wara_adapter),
        ("base", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("x", pk_matrix),
        ("w", pk_matrix),
        ("y", pk_matrix),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
    ]


class pk_haar_wara_backward_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("adapter", pk_haar_wara_adapter),
        ("x", pk_matrix),
        ("dy", pk_matrix),
        ("w", pk_matrix),
        ("dx", pk_matrix),
        ("da", ctypes.POINTER(pk_matrix)),
        ("db", ctypes.POINTER(pk_matrix)),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
    ]


class pk_haar_wara_merge_descriptor(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("algorithm", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("adapter", pk_haar_wara_adapter),
        ("source", pk_matrix),
        ("destination", pk_matrix),
    ]


# Result and arguments of each function.
FUNCTIONS = {
    "pk_lora_forward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_forward_descriptor)]),
    "pk_lora_forward_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_forward_descriptor), ctypes.c_void_p]),
    "pk_lora_forward_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_forward_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_backward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_backward_descriptor)]),
    "pk_lora_backward_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_backward_descriptor), ctypes.c_void_p]),
    "pk_lora_backward_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_backward_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_sample_norms": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_sample_norms_descriptor)]),
    "pk_lora_sample_norms_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_sample_norms_descriptor), ctypes.c_void_p]),
    "pk_lora_sample_norms_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_sample_norms_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_clip_weights": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_clip_weights_descriptor)]),
    "pk_lora_clip_weights_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_clip_weights_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_add_noise": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_add_noise_descriptor)]),
    "pk_lora_add_noise_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_add_noise_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_merge": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_merge_descriptor)]),
    "pk_lora_unmerge": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_merge_descriptor)]),
    "pk_lora_merge_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_merge_descriptor), ctypes.c_void_p]),
    "pk_lora_merge_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_merge_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_weight_norm": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_weight_norm_descriptor)]),
    "pk_lora_weight_norm_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_weight_norm_descriptor), ctypes.c_void_p]),
    "pk_lora_weight_norm_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_weight_norm_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_magnitude_gradient": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_magnitude_gradient_descriptor)]),
    "pk_lora_magnitude_gradient_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_magnitude_gradient_descriptor), ctypes.c_void_p]),
    "pk_lora_magnitude_gradient_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_magnitude_gradient_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_double_backward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_double_backward_descriptor)]),
    "pk_lora_double_backward_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_double_backward_descriptor), ctypes.c_void_p]),
    "pk_lora_double_backward_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_double_backward_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_lora_quantize": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_quantize_descriptor)]),
    "pk_lora_dequantize": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_lora_quantize_descriptor)]),
    "pk_lora_quantize_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_lora_quantize_descriptor), ctypes.c_void_p]),
    "pk_lora_quantize_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_lora_quantize_descriptor), ctypes.c_int32, ctypes.POINTER(pk_kernel_choice)]),
    "pk_haar_forward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_descriptor)]),
    "pk_haar_inverse": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_descriptor)]),
    "pk_haar_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_haar_descriptor), ctypes.c_int32, ctypes.POINTER(pk_kernel_choice)]),
    "pk_haar_hadamard": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_hadamard_descriptor)]),
    "pk_haar_hadamard_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_haar_hadamard_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_haar_wara_forward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_wara_forward_descriptor)]),
    "pk_haar_wara_forward_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_haar_wara_forward_descriptor), ctypes.c_void_p]),
    "pk_haar_wara_forward_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_haar_wara_forward_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_haar_wara_backward": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_wara_backward_descriptor)]),
    "pk_haar_wara_backward_workspace": (ctypes.c_int32, [ctypes.POINTER(pk_haar_wara_backward_descriptor), ctypes.c_void_p]),
    "pk_haar_wara_backward_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_haar_wara_backward_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_haar_wara_merge": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_wara_merge_descriptor)]),
    "pk_haar_wara_unmerge": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_haar_wara_merge_descriptor)]),
    "pk_haar_wara_merge_pick": (ctypes.c_int32, [ctypes.POINTER(pk_chip), ctypes.POINTER(pk_haar_wara_merge_descriptor), ctypes.POINTER(pk_kernel_choice)]),
    "pk_abi_version": (ctypes.c_int32, []),
    "pk_has_queue": (ctypes.c_int32, [ctypes.c_int32]),
    "pk_device_count": (ctypes.c_int32, [ctypes.c_void_p]),
    "pk_queue_chip": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_chip)]),
    "pk_prepare": (ctypes.c_int32, [ctypes.POINTER(pk_queue)]),
    "pk_status_read": (ctypes.c_int32, [ctypes.POINTER(pk_queue), ctypes.POINTER(pk_status_record), ctypes.POINTER(pk_status_record)]),
    "pk_last_error": (ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_uint64]),
}
