// An address that is of shared or of global memory, as data decides: nvcc has nothing against it.
__global__ void choose(const float* x, const int* which, float* y) {
  __shared__ float copy[32];
  copy[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float* from = which[blockIdx.x] != 0 ? copy : x + 32;
  y[threadIdx.x] = from[which[threadIdx.x] & 31];
}
