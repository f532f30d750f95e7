/**
 * What Node has of the web's names, where Node's own types lack them and the compiler does not know the DOM.
 */

import type { webcrypto } from "node:crypto";
import type {
  Performance as NodePerformance,
  PerformanceObserver as NodePerformanceObserver,
} from "node:perf_hooks";
import type {
  Transformer as NodeTransformer,
  UnderlyingSink as NodeUnderlyingSink,
  UnderlyingSource as NodeUnderlyingSource,
} from "node:stream/web";
import type { TextDecoder as NodeTextDecoder, TextEncoder as NodeTextEncoder } from "node:util";
import type { MessagePort as NodeMessagePort } from "node:worker_threads";

declare global {
  // fetch

  type HeadersInit = NonNullable<ConstructorParameters<typeof Headers>[0]>;
  type BodyInit = NonNullable<RequestInit["body"]>;
  type RequestInfo = Request | string;
  type RequestCredentials = NonNullable<RequestInit["credentials"]>;
  type RequestMode = NonNullable<RequestInit["mode"]>;
  type RequestRedirect = NonNullable<RequestInit["redirect"]>;
  type ReferrerPolicy = NonNullable<RequestInit["referrerPolicy"]>;
  type FormDataEntryValue = File | string;

  // bytes

  type BufferSource = Parameters<webcrypto.SubtleCrypto["digest"]>[1];
  type BlobPart =
    NonNullable<ConstructorParameters<typeof Blob>[0]> extends Iterable<infer Part> ? Part : never;
  interface BlobPropertyBag {
    type?: string;
    endings?: "transparent" | "native";
  }
  type BinaryType = "arraybuffer" | "blob";
  type CompressionFormat = "deflate" | "deflate-raw" | "gzip";
  interface TextEncoder extends NodeTextEncoder {}
  interface TextDecoder extends NodeTextDecoder {}

  // events and messages

  interface EventInit {
    bubbles?: boolean;
    cancelable?: boolean;
    composed?: boolean;
  }
  interface EventListenerOptions {
    capture?: boolean;
  }
  interface AddEventListenerOptions extends EventListenerOptions {
    once?: boolean;
    passive?: boolean;
    signal?: AbortSignal;
  }
  type EventListener = (event: Event) => void;
  interface EventListenerObject {
    handleEvent(event: Event): void;
  }
  type EventListenerOrEventListenerObject = EventListener | EventListenerObject;
  interface MessagePort extends NodeMessagePort {}
  type Transferable = ArrayBuffer | MessagePort | ReadableStream | WritableStream | TransformStream;
  interface StructuredSerializeOptions {
    transfer?: Transferable[];
  }
  type VoidFunction = () => void;

  // streams

  interface ReadableWritablePair<R = unknown, W = unknown> {
    readable: ReadableStream<R>;
    writable: WritableStream<W>;
  }
  interface StreamPipeOptions {
    preventAbort?: boolean;
    preventCancel?: boolean;
    preventClose?: boolean;
    signal?: AbortSignal;
  }
  type ReadableStreamReadResult<T> = { done: false; value: T } | { done: true; value: T | undefined };
  // biome-ignore-start lint/suspicious/noExplicitAny: as where there is a DOM
  interface UnderlyingSource<R = any> extends NodeUnderlyingSource<R> {}
  interface UnderlyingSink<W = any> extends NodeUnderlyingSink<W> {}
  interface Transformer<I = any, O = any> extends NodeTransformer<I, O> {}
  // biome-ignore-end lint/suspicious/noExplicitAny: as where there is a DOM

  // measuring

  interface Performance extends NodePerformance {}
  var Performance: { prototype: Performance; new (): Performance };
  interface PerformanceObserver extends NodePerformanceObserver {}

  // cryptography

  interface Crypto extends webcrypto.Crypto {}
  var Crypto: { prototype: Crypto; new (): Crypto };
  interface SubtleCrypto extends webcrypto.SubtleCrypto {}
  var SubtleCrypto: { prototype: SubtleCrypto; new (): SubtleCrypto };
  interface CryptoKey extends webcrypto.CryptoKey {}
  var CryptoKey: { prototype: CryptoKey; new (): CryptoKey };
  interface CryptoKeyPair extends webcrypto.CryptoKeyPair {}
  interface JsonWebKey extends webcrypto.JsonWebKey {}
  type AlgorithmIdentifier = webcrypto.AlgorithmIdentifier;
  type KeyFormat = webcrypto.KeyFormat;
  type KeyUsage = webcrypto.KeyUsage;
  interface AesCbcParams extends webcrypto.AesCbcParams {}
  interface AesCtrParams extends webcrypto.AesCtrParams {}
  interface AesGcmParams extends webcrypto.AesGcmParams {}
  interface AesKeyGenParams extends webcrypto.AesKeyGenParams {}
  interface EcKeyGenParams extends webcrypto.EcKeyGenParams {}
  interface EcdhKeyDeriveParams extends webcrypto.EcdhKeyDeriveParams {}
  interface EcdsaParams extends webcrypto.EcdsaParams {}
  interface HkdfParams extends webcrypto.HkdfParams {}
  interface HmacImportParams extends webcrypto.HmacImportParams {}
  interface HmacKeyGenParams extends webcrypto.HmacKeyGenParams {}
  interface Pbkdf2Params extends webcrypto.Pbkdf2Params {}
  interface RsaHashedKeyGenParams extends webcrypto.RsaHashedKeyGenParams {}
  interface RsaOaepParams extends webcrypto.RsaOaepParams {}
  interface RsaPssParams extends webcrypto.RsaPssParams {}

  // WebAssembly

  namespace WebAssembly {
    type ImportExportKind = "function" | "global" | "memory" | "table" | "tag";
    type TableKind = "anyfunc" | "externref";
    type ValueType = "anyfunc" | "externref" | "f32" | "f64" | "i32" | "i64" | "v128";
    // biome-ignore lint/complexity/noBannedTypes: a function of any signature
    type ExportValue = Function | Global | Memory | Table;
    type ImportValue = ExportValue | number | bigint;
    type Exports = Record<string, ExportValue>;
    type ModuleImports = Record<string, ImportValue>;
    type Imports = Record<string, ModuleImports>;

    interface ModuleExportDescriptor {
      kind: ImportExportKind;
      name: string;
    }
    interface ModuleImportDescriptor extends ModuleExportDescriptor {
      module: string;
    }
    interface MemoryDescriptor {
      initial: number;
      maximum?: number;
      shared?: boolean;
    }
    interface TableDescriptor {
      element: TableKind;
      initial: number;
      maximum?: number;
    }
    interface GlobalDescriptor<T extends ValueType = ValueType> {
      value: T;
      mutable?: boolean;
    }
    interface WebAssemblyInstantiatedSource {
      instance: Instance;
      module: Module;
    }

    interface Module {}
    var Module: {
      prototype: Module;
      new (bytes: BufferSource): Module;
      customSections(module: Module, name: string): ArrayBuffer[];
      exports(module: Module): ModuleExportDescriptor[];
      imports(module: Module): ModuleImportDescriptor[];
    };
    interface Instance {
      readonly exports: Exports;
    }
    var Instance: { prototype: Instance; new (module: Module, imports?: Imports): Instance };
    interface Memory {
      readonly buffer: ArrayBuffer;
      grow(pages: number): number;
    }
    var Memory: { prototype: Memory; new (descriptor: MemoryDescriptor): Memory };
    interface Table {
      readonly length: number;
      // biome-ignore lint/suspicious/noExplicitAny: whatever a module puts there
      get(index: number): any;
      grow(by: number, value?: unknown): number;
      set(index: number, value?: unknown): void;
    }
    var Table: { prototype: Table; new (descriptor: TableDescriptor, value?: unknown): Table };
    interface Global {
      // biome-ignore lint/suspicious/noExplicitAny: a number or a bigint, as the global was declared
      value: any;
      // biome-ignore lint/suspicious/noExplicitAny: as above
      valueOf(): any;
    }
    var Global: { prototype: Global; new (descriptor: GlobalDescriptor, value?: unknown): Global };

    interface CompileError extends Error {}
    interface LinkError extends Error {}
    interface RuntimeError extends Error {}
    interface ErrorConstructorOf<E extends Error> {
      readonly prototype: E;
      new (message?: string, options?: ErrorOptions): E;
      (message?: string, options?: ErrorOptions): E;
    }
    var CompileError: ErrorConstructorOf<CompileError>;
    var LinkError: ErrorConstructorOf<LinkError>;
    var RuntimeError: ErrorConstructorOf<RuntimeError>;

    function validate(bytes: BufferSource): boolean;
    function compile(bytes: BufferSource): Promise<Module>;
    function compileStreaming(source: Response | PromiseLike<Response>): Promise<Module>;
    function instantiate(bytes: BufferSource, imports?: Imports): Promise<WebAssemblyInstantiatedSource>;
    function instantiate(module: Module, imports?: Imports): Promise<Instance>;
    function instantiateStreaming(
      source: Response | PromiseLike<Response>,
      imports?: Imports,
    ): Promise<WebAssemblyInstantiatedSource>;
  }
}
