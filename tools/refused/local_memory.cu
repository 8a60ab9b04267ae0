// An array that is indexed by data finds no registers.
__global__ void count(const int* at, int* counts) {
  int values[64] = {};
  for (int i = 0; i < 64; ++i) values[at[i] & 63] += i;
  counts[threadIdx.x] = values[at[threadIdx.x] & 63];
}
