// What plugins and the generated bindings need of it: see libc.c.
#pragma once
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int octet, size_t count);
int memcmp(const void *left, const void *right, size_t count);
size_t strlen(const char *text);
