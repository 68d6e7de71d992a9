//! Files and the network as WASI offers them: nothing is there, and whoever reaches for it is told so in the words of its language.
//!
//! Without any directory a language's library would answer by itself that there is no such file, and nobody would learn of the attempt.
//! So there is a root directory that lets nobody in: an attempt is the error `access`, which is `PermissionError` in Python and
//! `PermissionDenied` in Rust, a counter and a line in the trace. No file and no socket of the system stands behind any of it.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode as SocketCode, IpAddress, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, FsError, FsResult, SocketError, SocketResult, TcpSocket, UdpSocket,
};

use crate::state::State;

/// The name of the only directory.
const ROOT: &str = "/";

/// Puts these in place of what is linked already.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    tcp_create_socket::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    udp_create_socket::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl State {
    fn no_file<T>(&mut self, call: &'static str, path: &str) -> FsResult<T> {
        self.refused_what(call, path);
        Err(ErrorCode::Access.into())
    }

    fn no_socket<T>(&mut self, call: &'static str, what: &str) -> SocketResult<T> {
        self.refused_what(call, what);
        Err(SocketCode::AccessDenied.into())
    }
}

/// What is done to an open file: the root directory is none.
fn no_such_thing<T>() -> FsResult<T> {
    Err(ErrorCode::IsDirectory.into())
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        // Only a number to the guest: nothing is looked up by it.
        Ok(vec![(Resource::new_own(0), ROOT.to_owned())])
    }
}

impl types::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<ErrorCode>> {
        // No stream of a file ever fails, since there is none.
        Ok(None)
    }
}

type Dir = Resource<Descriptor>;

impl HostDescriptor for State {
    async fn open_at(&mut self, _: Dir, _: PathFlags, path: String, _: OpenFlags, _: DescriptorFlags) -> FsResult<Dir> {
        self.no_file("wasi.open", &path)
    }

    async fn stat_at(&mut self, _: Dir, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.no_file("wasi.stat", &path)
    }

    async fn readlink_at(&mut self, _: Dir, path: String) -> FsResult<String> {
        self.no_file("wasi.stat", &path)
    }

    async fn metadata_hash_at(&mut self, _: Dir, _: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.no_file("wasi.stat", &path)
    }

    async fn read_directory(&mut self, _: Dir) -> FsResult<Resource<DirectoryEntryStream>> {
        self.no_file("wasi.list", ROOT)
    }

    async fn create_directory_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn set_times_at(&mut self, _: Dir, _: PathFlags, path: String, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn link_at(&mut self, _: Dir, _: PathFlags, path: String, _: Dir, _: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn symlink_at(&mut self, _: Dir, _: String, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn rename_at(&mut self, _: Dir, path: String, _: Dir, _: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn remove_directory_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn unlink_file_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn set_times(&mut self, _: Dir, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        self.no_file("wasi.change", ROOT)
    }

    // What a library asks of a directory before it takes it for one.

    async fn get_flags(&mut self, _: Dir) -> FsResult<DescriptorFlags> {
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(&mut self, _: Dir) -> FsResult<DescriptorType> {
        Ok(DescriptorType::Directory)
    }

    async fn stat(&mut self, _: Dir) -> FsResult<DescriptorStat> {
        Ok(DescriptorStat {
            type_: DescriptorType::Directory,
            link_count: 1,
            size: 0,
            data_access_timestamp: None,
            data_modification_timestamp: None,
            status_change_timestamp: None,
        })
    }

    async fn metadata_hash(&mut self, _: Dir) -> FsResult<MetadataHashValue> {
        Ok(MetadataHashValue { lower: 0, upper: 0 })
    }

    async fn is_same_object(&mut self, _: Dir, _: Dir) -> Result<bool> {
        Ok(true)
    }

    async fn advise(&mut self, _: Dir, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        no_such_thing()
    }

    async fn sync(&mut self, _: Dir) -> FsResult<()> {
        no_such_thing()
    }

    async fn sync_data(&mut self, _: Dir) -> FsResult<()> {
        no_such_thing()
    }

    async fn set_size(&mut self, _: Dir, _: Filesize) -> FsResult<()> {
        no_such_thing()
    }

    async fn read(&mut self, _: Dir, _: Filesize, _: Filesize) -> FsResult<(Vec<u8>, bool)> {
        no_such_thing()
    }

    async fn write(&mut self, _: Dir, _: Vec<u8>, _: Filesize) -> FsResult<Filesize> {
        no_such_thing()
    }

    fn read_via_stream(&mut self, _: Dir, _: Filesize) -> FsResult<Resource<DynInputStream>> {
        no_such_thing()
    }

    fn write_via_stream(&mut self, _: Dir, _: Filesize) -> FsResult<Resource<DynOutputStream>> {
        no_such_thing()
    }

    fn append_via_stream(&mut self, _: Dir) -> FsResult<Resource<DynOutputStream>> {
        no_such_thing()
    }

    fn drop(&mut self, _: Dir) -> Result<()> {
        Ok(())
    }
}

impl HostDirectoryEntryStream for State {
    async fn read_directory_entry(&mut self, _: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        Ok(None)
    }

    fn drop(&mut self, _: Resource<DirectoryEntryStream>) -> Result<()> {
        Ok(())
    }
}

impl network::Host for State {
    fn convert_error_code(&mut self, error: SocketError) -> Result<SocketCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<SocketCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for State {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut wasmtime_wasi::sockets::WasiSocketsView::sockets(self), network)
    }
}

impl tcp_create_socket::Host for State {
    fn create_tcp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.no_socket("wasi.socket", "TCP")
    }
}

impl udp_create_socket::Host for State {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.no_socket("wasi.socket", "UDP")
    }
}

impl ip_name_lookup::Host for State {
    fn resolve_addresses(
        &mut self,
        _: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        self.no_socket("wasi.resolve", &name)
    }
}

impl ip_name_lookup::HostResolveAddressStream for State {
    fn resolve_next_address(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        Ok(None)
    }

    fn subscribe(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> Result<Resource<DynPollable>> {
        Err(wasmtime::Error::msg("no name was ever looked up"))
    }

    fn drop(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> Result<()> {
        Ok(())
    }
}
