/*
 * A milter that sees header and body of each message and changes nothing: what the bridge, or Postfix, costs without any work behind it.
 *
 *   cc -O2 -o noop_milter noop_milter.c -lmilter -lpthread        (Debian: libmilter-dev)
 *   ./noop_milter inet:PORT@127.0.0.1 | unix:/path/of/socket [--quiet]
 *
 * --quiet: it does not reply to header fields, the header's end and body pieces (SMFIP_NR_*), as rspamd does; without it each is a round
 * trip, as for most milters. It counts octets, so that nothing is optimised away, and prints the count when it is ended with SIGTERM.
 */
#include <libmilter/mfapi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static int quiet;
static atomic_ullong octets, messages;

static sfsistat negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
                          unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
    unsigned long steps = SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NOMAIL | SMFIP_NORCPT | SMFIP_NODATA | SMFIP_NOUNKNOWN;

    (void)ctx, (void)f0, (void)f2, (void)f3;
    if (quiet)
        steps |= SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY;
    *pf0 = 0;
    *pf1 = steps & f1;
    *pf2 = *pf3 = 0;
    return SMFIS_CONTINUE;
}

static sfsistat reply_to_part(void)
{
    return quiet ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat header(SMFICTX *ctx, char *name, char *value)
{
    (void)ctx;
    octets += strlen(name) + strlen(value);
    return reply_to_part();
}

static sfsistat end_of_header(SMFICTX *ctx)
{
    (void)ctx;
    return reply_to_part();
}

static sfsistat body(SMFICTX *ctx, unsigned char *piece, size_t length)
{
    (void)ctx, (void)piece;
    octets += length;
    return reply_to_part();
}

static sfsistat end_of_message(SMFICTX *ctx)
{
    (void)ctx;
    messages++;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc description = {
        .xxfi_name = "noop",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = 0,
        .xxfi_header = header,
        .xxfi_eoh = end_of_header,
        .xxfi_body = body,
        .xxfi_eom = end_of_message,
        .xxfi_negotiate = negotiate,
    };
    int status;

    if (argc < 2) {
        fprintf(stderr, "usage: %s inet:PORT@HOST|unix:PATH [--quiet]\n", argv[0]);
        return 64;
    }
    quiet = argc > 2 && strcmp(argv[2], "--quiet") == 0;
    if (smfi_register(description) != MI_SUCCESS || smfi_setconn(argv[1]) != MI_SUCCESS) {
        fprintf(stderr, "%s: cannot listen at %s\n", argv[0], argv[1]);
        return 69;
    }
    status = smfi_main();
    printf("messages=%llu octets=%llu\n", (unsigned long long)messages, (unsigned long long)octets);
    return status == MI_SUCCESS ? 0 : 70;
}
