/* Two errors that scripts/sanitize plants, to see that the sanitizers find them. */
#include <stdlib.h>

int behind(int size) {
    volatile char *memory = malloc(size);
    int read = memory[size];
    free((void *)memory);
    return read;
}

int overflow(int value) {
    volatile int one = 1;
    return value + one;
}
