/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for the Rust core: every native function of barrel_p2p_nif, each
 * raising native_stub. With it the Erlang code compiles, loads and passes
 * dialyzer without a Rust toolchain. It is no fallback: barrel_p2p_native
 * refuses it, and with it the application and the carrier refuse to start.
 *
 * The table is the whole boundary on one page. Add a function to
 * barrel_p2p_nif.erl, to the crate barrel_nif, and here; the contract test
 * compares the three.
 */
#include <erl_nif.h>

/*      name              arity */
#define BOUNDARY(F)              \
    /* library */                \
    F(log_attach,             1) \
    F(log_drain,              0) \
    F(log_level,              1) \
    /* identity and trust */     \
    F(generate_keypair,       0) \
    F(load_keypair,           1) \
    F(save_keypair,           3) \
    F(ensure_keypair,         1) \
    F(fingerprint,            1) \
    F(trust_open,             3) \
    F(trust_set_mode,         2) \
    F(trust_mode,             1) \
    F(trust_lookup,           2) \
    F(trust_store,            4) \
    F(trust_delete,           2) \
    F(trust_check,            3) \
    F(trust_list,             1) \
    /* endpoint files */         \
    F(lease_publish,          4) \
    F(lease_release,          1) \
    F(lease_lookup,           2) \
    F(lease_list,             1) \
    /* the endpoint */           \
    F(node_open,              1) \
    F(node_close,             2) \
    F(node_acceptor,          2) \
    F(node_secret,            3) \
    F(node_info,              1) \
    F(node_links,             1) \
    /* one dist channel */       \
    F(dist_open,              3) \
    F(dist_owner,             3) \
    F(dist_peer,              1) \
    F(dist_send,              2) \
    F(dist_recv,              2) \
    F(dist_tick,              1) \
    F(dist_stat,              1) \
    F(dist_close,             1)

static ERL_NIF_TERM native_stub(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_raise_exception(env, enif_make_atom(env, "native_stub"));
}

/* The two that answer: what this library is, and that it is loaded. */

static ERL_NIF_TERM build_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ERL_NIF_TERM map = enif_make_new_map(env);

    (void)argc;
    (void)argv;
    enif_make_map_put(env, map, enif_make_atom(env, "kind"), enif_make_atom(env, "stub"), &map);
    enif_make_map_put(env, map, enif_make_atom(env, "name"), enif_make_atom(env, "barrel_p2p_nif"), &map);
    return map;
}

static ERL_NIF_TERM load(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_atom(env, "already_loaded");
}

#define ROW(name, arity) {#name, arity, native_stub, 0},

static ErlNifFunc functions[] = {
    {"build_info", 0, build_info, 0},
    {"load", 1, load, 0},
    BOUNDARY(ROW)
};

ERL_NIF_INIT(barrel_p2p_nif, functions, NULL, NULL, NULL, NULL)
