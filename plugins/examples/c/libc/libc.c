// As much of a C library as a plugin needs: memory and octets, no files, no clock, nothing that would have to be imported. With it one
// command line serves any clang, and `zig cc`, which is one.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, PAGE = 65536 };

// A block carries its size before it. Free ones are kept on one list for each power of two, so that a plugin whose instance is reused
// does not grow with each message.
typedef struct block { size_t class; struct block *next; } block;
_Static_assert(sizeof(block) <= ALIGN, "the head of a block fits its alignment");

extern unsigned char __heap_base;
static block *free_blocks[32];
static uintptr_t top, end;

static block *grow(size_t class) {
  size_t size = ((size_t)1 << class) + ALIGN;
  if (top == 0) top = ((uintptr_t)&__heap_base + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1), end = __builtin_wasm_memory_size(0) * PAGE;
  if (end - top < size) {
    size_t pages = (size - (end - top) + PAGE - 1) / PAGE;
    // The host's limit of memory is a fault, and the host says so.
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) abort();
    end += pages * PAGE;
  }
  block *made = (block *)top;
  top += size;
  made->class = class;
  return made;
}

void *malloc(size_t size) {
  size_t class = 4;
  while (((size_t)1 << class) < size)
    if (++class > 30) abort();
  block *found = free_blocks[class];
  if (found) free_blocks[class] = found->next;
  else found = grow(class);
  return (char *)found + ALIGN;
}

void free(void *ptr) {
  if (!ptr) return;
  block *gone = (block *)((char *)ptr - ALIGN);
  gone->next = free_blocks[gone->class];
  free_blocks[gone->class] = gone;
}

void *realloc(void *ptr, size_t size) {
  if (!ptr) return malloc(size);
  size_t room = (size_t)1 << ((block *)((char *)ptr - ALIGN))->class;
  if (size <= room) return ptr;
  void *made = malloc(size);
  memcpy(made, ptr, room);
  free(ptr);
  return made;
}

void abort(void) { __builtin_trap(); }

void *memcpy(void *restrict to, const void *restrict from, size_t count) { return memmove(to, from, count); }

void *memmove(void *to, const void *from, size_t count) {
  char *t = to;
  const char *f = from;
  if (t < f) for (size_t i = 0; i < count; i++) t[i] = f[i];
  else while (count--) t[count] = f[count];
  return to;
}

void *memset(void *to, int octet, size_t count) {
  for (size_t i = 0; i < count; i++) ((char *)to)[i] = (char)octet;
  return to;
}

int memcmp(const void *left, const void *right, size_t count) {
  const unsigned char *l = left, *r = right;
  for (; count--; l++, r++)
    if (*l != *r) return *l - *r;
  return 0;
}

size_t strlen(const char *text) {
  const char *at = text;
  while (*at) at++;
  return (size_t)(at - text);
}
