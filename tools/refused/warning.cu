// A variable that nobody reads.
__global__ void store(float* y) {
  int unused = 3;
  y[threadIdx.x] = 1.0f;
}
