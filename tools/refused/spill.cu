// More values than the 32 registers that these launch bounds leave a thread.
__global__ void __launch_bounds__(1024, 2) mix(const float* x, float* y, int rounds) {
  float values[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) values[i] = x[i * 1024 + threadIdx.x];
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < 64; ++i) values[i] = values[i] * values[(i * 7 + 3) % 64] + 1.0f;
  }
#pragma unroll
  for (int i = 0; i < 64; ++i) y[i * 1024 + threadIdx.x] = values[i];
}
