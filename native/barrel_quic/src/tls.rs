//! TLS 1.3 for QUIC: encryption, and that each end holds what it shows.
//!
//! Any certificate is taken, from either side, since a node is its Ed25519 key
//! and that key is proven by the hello. But the signature of the handshake
//! *is* checked against the certificate shown: the two ends of the session are
//! then fixed, and the TLS exporter, on which the hello stands, is theirs.
//!
//! Absent on purpose: TLS 1.2; session tickets and resumption, because every
//! connection is authenticated anew; 0-RTT, because its data could be
//! replayed; names in the ClientHello, because they travel in the clear.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};

use crate::certs::TlsMaterial;
use crate::hello::EXPORTER_SIZE;

/// The application protocol: both ends must name it.
pub const ALPN: &[u8] = b"barrel-p2p/1";

/// The server name that every dialler sends: the same for all nodes, so that
/// it tells a listener on the network nothing.
pub const SERVER_NAME: &str = "barrel-p2p";

/// Label of the exported value that a hello is bound to. RFC 5705 keeps the
/// prefix for private use free of registration.
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL barrel_p2p hello";

/// Why TLS cannot be set up with a certificate.
#[derive(Debug)]
pub enum TlsSetupError {
    /// rustls refuses the certificate or the key.
    Material(rustls::Error),
    /// The cryptography has no suite for QUIC.
    NoInitialSuite,
}

/// The connection has no exporter: its handshake is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExporter;

/// What this node shows and demands as the end that is dialled.
pub fn server_crypto(material: &TlsMaterial) -> Result<Arc<QuicServerConfig>, TlsSetupError> {
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyChain { provider }))
        .with_single_cert(material.chain.clone(), material.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let quic = QuicServerConfig::try_from(config).map_err(|_| TlsSetupError::NoInitialSuite)?;
    Ok(Arc::new(quic))
}

/// What this node shows and demands as the end that dials.
pub fn client_crypto(material: &TlsMaterial) -> Result<Arc<QuicClientConfig>, TlsSetupError> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyChain { provider }))
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    let quic = QuicClientConfig::try_from(config).map_err(|_| TlsSetupError::NoInitialSuite)?;
    Ok(Arc::new(quic))
}

/// The value that names one TLS session: equal at both ends of it, and known
/// to nobody else.
pub fn exporter(connection: &quinn::Connection) -> Result<[u8; EXPORTER_SIZE], NoExporter> {
    let mut value = [0; EXPORTER_SIZE];
    connection
        .export_keying_material(&mut value, EXPORTER_LABEL, b"")
        .map_err(|_| NoExporter)?;
    Ok(value)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes any certificate, and checks that its key signed the handshake.
#[derive(Debug)]
struct AnyChain {
    provider: Arc<CryptoProvider>,
}

impl AnyChain {
    fn verify(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
}

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for AnyChain {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl TlsSetupError {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Material(_) => "tls_material",
            Self::NoInitialSuite => "tls_no_suite",
        }
    }
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Material(error) => write!(
                f,
                "TLS refuses the certificate or its key: {error}; replace the pair, or remove it \
                 to have one generated"
            ),
            Self::NoInitialSuite => {
                f.write_str("the library was built without AES-128-GCM; build it again from source")
            }
        }
    }
}

impl std::error::Error for TlsSetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Material(error) => Some(error),
            Self::NoInitialSuite => None,
        }
    }
}

impl From<rustls::Error> for TlsSetupError {
    fn from(error: rustls::Error) -> Self {
        Self::Material(error)
    }
}

impl fmt::Display for NoExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the TLS handshake of the connection is not complete; dial again")
    }
}

impl std::error::Error for NoExporter {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs;
    use quinn::{Connection, ConnectionError, Endpoint};
    use rustls::client::ResolvesClientCert;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::{Duration, SystemTime};

    /// A bound for a hang, far above what a handshake takes.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn material() -> TlsMaterial {
        certs::ephemeral(SystemTime::now()).unwrap()
    }

    /// Shows the certificate of one node and signs with the key of another.
    #[derive(Debug)]
    struct Impostor(Arc<CertifiedKey>);

    impl Impostor {
        fn new() -> Arc<Self> {
            let load =
                |m: &TlsMaterial| provider().key_provider.load_private_key(m.key.clone_key());
            let (victim, own) = (material(), material());
            Arc::new(Self(Arc::new(CertifiedKey::new(
                victim.chain,
                load(&own).unwrap(),
            ))))
        }
    }

    impl ResolvesServerCert for Impostor {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }

    impl ResolvesClientCert for Impostor {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    /// A client configuration as ours, with the certificate part by `auth`.
    fn odd_client(
        auth: impl FnOnce(
            rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
        ) -> ClientConfig,
        alpn: &[&[u8]],
    ) -> Arc<QuicClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyChain { provider }));
        let mut config = auth(builder);
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Arc::new(config.try_into().unwrap())
    }

    fn with_own_cert(
        builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    ) -> ClientConfig {
        let own = material();
        builder.with_client_auth_cert(own.chain, own.key).unwrap()
    }

    fn odd_server(resolver: Arc<dyn ResolvesServerCert>, alpn: &[&[u8]]) -> Arc<QuicServerConfig> {
        let provider = provider();
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyChain { provider }))
            .with_cert_resolver(resolver);
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Arc::new(config.try_into().unwrap())
    }

    /// A server that is what it says, for a test of its protocols.
    fn honest() -> Arc<dyn ResolvesServerCert> {
        let own = material();
        let key = CertifiedKey::from_der(own.chain, own.key, &provider()).unwrap();
        Arc::new(Impostor(Arc::new(key)))
    }

    struct Meeting {
        dialled: Result<Connection, ConnectionError>,
        accepted: Result<Connection, ConnectionError>,
        // Kept until the results were looked at.
        _endpoints: [Endpoint; 2],
    }

    impl Meeting {
        /// The error of one end that says `word`; no end may be content when
        /// the other has refused it.
        async fn refusal(self, word: &str) {
            // A dialler is content before its own certificate was judged: it
            // learns of the refusal on its connection.
            let dialler = match self.dialled {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            };
            let acceptor = match self.accepted {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            };
            let said = format!("{dialler} / {acceptor}");
            assert!(said.contains(word), "{said}");
        }
    }

    async fn meet(server: Arc<QuicServerConfig>, client: Arc<QuicClientConfig>) -> Meeting {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Endpoint::server(quinn::ServerConfig::with_crypto(server), local).unwrap();
        let dialler = Endpoint::client(local).unwrap();
        let connecting = dialler
            .connect_with(
                quinn::ClientConfig::new(client),
                listener.local_addr().unwrap(),
                SERVER_NAME,
            )
            .unwrap();
        let accept = async { listener.accept().await.unwrap().accept()?.await };
        let (dialled, accepted) = tokio::join!(connecting, accept);
        Meeting {
            dialled,
            accepted,
            _endpoints: [listener, dialler],
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, test)
                .await
                .expect("the test hangs");
        });
    }

    fn ours() -> (Arc<QuicServerConfig>, Arc<QuicClientConfig>) {
        (
            server_crypto(&material()).unwrap(),
            client_crypto(&material()).unwrap(),
        )
    }

    #[test]
    fn two_nodes_meet_and_share_an_exporter_that_no_other_session_has() {
        run(async {
            let (server, client) = ours();
            let mut seen = Vec::new();
            for _ in 0..2 {
                let meeting = meet(server.clone(), client.clone()).await;
                let (dialled, accepted) = (meeting.dialled.unwrap(), meeting.accepted.unwrap());
                let value = exporter(&dialled).unwrap();
                assert_eq!(value, exporter(&accepted).unwrap());
                seen.push(value);
            }
            assert_ne!(seen[0], seen[1]);
        });
    }

    #[test]
    fn each_end_sees_the_certificate_of_the_other() {
        run(async {
            let (us, them) = (material(), material());
            let meeting = meet(server_crypto(&us).unwrap(), client_crypto(&them).unwrap()).await;
            let shown = |connection: Connection| {
                let identity = connection.peer_identity().unwrap();
                *identity.downcast::<Vec<CertificateDer<'static>>>().unwrap()
            };
            assert_eq!(shown(meeting.dialled.unwrap()), us.chain);
            assert_eq!(shown(meeting.accepted.unwrap()), them.chain);
        });
    }

    #[test]
    fn an_operators_key_of_another_kind_serves() {
        run(async {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let params = rcgen::CertificateParams::new(["x".to_owned()]).unwrap();
            let mut own = material();
            own.chain = vec![params.self_signed(&key).unwrap().der().clone()];
            own.key = key.serialize_der().try_into().unwrap();
            let meeting = meet(server_crypto(&own).unwrap(), client_crypto(&own).unwrap()).await;
            assert!(meeting.dialled.is_ok() && meeting.accepted.is_ok());
        });
    }

    #[test]
    fn a_server_that_does_not_hold_the_key_of_its_certificate_is_refused() {
        run(async {
            let server = odd_server(Impostor::new(), &[ALPN]);
            let meeting = meet(server, client_crypto(&material()).unwrap()).await;
            assert!(meeting.dialled.is_err());
            meeting.refusal("BadSignature").await;
        });
    }

    #[test]
    fn a_client_that_does_not_hold_the_key_of_its_certificate_is_refused() {
        run(async {
            let client = odd_client(|b| b.with_client_cert_resolver(Impostor::new()), &[ALPN]);
            let meeting = meet(server_crypto(&material()).unwrap(), client).await;
            assert!(meeting.accepted.is_err());
            meeting.refusal("BadSignature").await;
        });
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        run(async {
            let client = odd_client(|b| b.with_no_client_auth(), &[ALPN]);
            let meeting = meet(server_crypto(&material()).unwrap(), client).await;
            assert!(meeting.accepted.is_err());
            meeting.refusal("no certificates").await;
        });
    }

    #[test]
    fn a_client_of_another_protocol_or_of_none_is_refused() {
        run(async {
            let others: [&[&[u8]]; 2] = [&[b"h3"], &[]];
            for alpn in others {
                let client = odd_client(with_own_cert, alpn);
                let meeting = meet(server_crypto(&material()).unwrap(), client).await;
                assert!(
                    meeting.dialled.is_err() && meeting.accepted.is_err(),
                    "{alpn:?}"
                );
            }
        });
    }

    #[test]
    fn a_server_of_another_protocol_or_of_none_is_refused() {
        run(async {
            let others: [&[&[u8]]; 2] = [&[b"h3"], &[]];
            for alpn in others {
                let server = odd_server(honest(), alpn);
                let meeting = meet(server, client_crypto(&material()).unwrap()).await;
                assert!(meeting.dialled.is_err(), "{alpn:?}");
                meeting.refusal("protocol").await;
            }
        });
    }

    #[test]
    fn a_client_that_asks_for_early_data_gets_no_ticket_for_it() {
        run(async {
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = server_crypto(&material()).unwrap();
            let greedy = |builder| {
                let mut config = with_own_cert(builder);
                config.enable_early_data = true;
                config
            };
            let client = odd_client(greedy, &[ALPN]);
            let listener =
                Endpoint::server(quinn::ServerConfig::with_crypto(server), local).unwrap();
            let dialler = Endpoint::client(local).unwrap();
            for _ in 0..2 {
                let connecting = dialler
                    .connect_with(
                        quinn::ClientConfig::new(client.clone()),
                        listener.local_addr().unwrap(),
                        SERVER_NAME,
                    )
                    .unwrap();
                let connecting = connecting.into_0rtt().err().expect("early data is offered");
                let accept = async { listener.accept().await.unwrap().accept().unwrap().await };
                let (dialled, accepted) = tokio::join!(connecting, accept);
                let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
                // Whatever the server sends after its handshake has come
                // before this, a ticket too if it sent one.
                let mut stream = accepted.open_uni().await.unwrap();
                stream.write_all(b"x").await.unwrap();
                stream.finish().unwrap();
                let mut stream = dialled.accept_uni().await.unwrap();
                assert_eq!(stream.read_to_end(1).await.unwrap(), b"x");
            }
        });
    }

    #[test]
    fn tls_1_2_signatures_never_count() {
        assert!(tls12().is_err());
    }
}
