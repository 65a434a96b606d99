/* The table of names that src/sys/native.ts declares, in its order. */
#include "shim.h"

#define EACH_SHIM(X)                                                                                                  \
	X(fuseReceive) X(fuseReply) X(fuseReplyReceive) X(fuseBackingOpen) X(fuseBackingClose)                        \
	X(mount) X(umount) X(openTree) X(mountSetattr) X(fsopen) X(fsconfig) X(fsmount) X(namespaceOwner) X(moveMount) \
	X(close) X(closeRange) X(flock) X(duplicate) X(memoryFile) X(addSeals) X(growTable) X(replace)             \
	X(setStatusFlags) X(poll)                                                                                     \
	X(openat2) X(statx) X(getdents) X(readlinkat) X(pread) X(lseek) X(fstatfs)                                    \
	X(nameToHandleAt) X(openByHandleAt) X(fileFlags) X(fileXattr) X(filesystemUuid) X(btrfsUuid)                  \
	X(openat) X(mkdirat) X(mknodat) X(symlinkat) X(linkat) X(unlinkat) X(renameat2)                               \
	X(fchownat) X(fchmodat) X(utimensat) X(ftruncate) X(fallocate) X(pwrite) X(fsync) X(fdatasync) X(syncfs)      \
	X(copyFileRange) X(clone) X(setFileFlags) X(setFileXattr)                                                     \
	X(lgetxattr) X(getxattr) X(listxattr) X(getxattrat) X(listxattrat) X(fgetxattr) X(flistxattr)                 \
	X(setxattr) X(removexattr) X(setxattrat) X(removexattrat)                                                     \
	X(measureVerity) X(enableVerity) X(hashBlocks)                                                                \
	X(uringSetup) X(uringEnter) X(map) X(advise) X(addressOf)                                                     \
	X(loopDescriptor) X(loopTimeout) X(prepareStreams)                                                            \
	X(execute) X(spawn) X(setsid) X(exit)                                                                         \
	X(socketPair) X(connectSocket) X(listenStream) X(accept) X(peerCredentials) X(peerGroups)                     \
	X(sendMessage) X(receiveMessage)                                                                              \
	X(epollCreate) X(epollControl) X(epollWait)                                                                   \
	X(callOnThread) X(landlockCreateRuleset) X(landlockAddRule) X(seccomp)                                        \
	X(benchPaths) X(benchReads) X(benchWrites) X(benchTouches) X(benchRuns) X(benchUser)

#define DECLARE(name) SHIM(name);
#define ROW(name) { #name, NULL, shim_##name, NULL, NULL, NULL, napi_enumerable, NULL },

EACH_SHIM(DECLARE)

static const napi_property_descriptor table[] = { EACH_SHIM(ROW) };

/* Runs once in every thread that loads the addon. */
NAPI_MODULE_INIT()
{
	napi_define_properties(env, exports, sizeof table / sizeof *table, table);
	return exports;
}
