/** The parts of V8's inspector protocol that the debugger uses. */

/** The inspector of the process that runs cells, reachable also while that is paused. */
export interface Inspector {
  /** Rejects with what the inspector objects to, or when the process is gone. */
  post<T = unknown>(method: string, params?: object): Promise<T>;
  onEvent(listener: (method: string, params: unknown) => void): void;
  /** Lets go of the process, which otherwise waits for its debugger when it ends. */
  detach(): void;
}

export interface RemoteObject {
  readonly type: string;
  readonly subtype?: string;
  readonly className?: string;
  readonly value?: unknown;
  readonly unserializableValue?: string;
  readonly description?: string;
  readonly objectId?: string;
  readonly preview?: Preview;
}

export interface Preview {
  readonly description?: string;
  readonly subtype?: string;
  readonly overflow: boolean;
  readonly properties: readonly {
    readonly name: string;
    readonly type: string;
    readonly value?: string;
    readonly subtype?: string;
  }[];
  readonly entries?: readonly { readonly key?: Preview; readonly value: Preview }[];
}

export interface Evaluated {
  readonly result: RemoteObject;
  readonly exceptionDetails?: { readonly text: string; readonly exception?: RemoteObject };
}

export interface Property {
  readonly name: string;
  readonly value?: RemoteObject;
  readonly get?: RemoteObject;
  readonly symbol?: RemoteObject;
}

export interface Location {
  readonly scriptId: string;
  readonly lineNumber: number;
  readonly columnNumber?: number;
}

export interface CallFrame {
  readonly callFrameId: string;
  readonly functionName: string;
  readonly functionLocation?: Location;
  readonly location: Location;
  readonly scopeChain: readonly {
    readonly type: string;
    readonly name?: string;
    readonly object: RemoteObject;
  }[];
}

export interface Paused {
  readonly callFrames: readonly CallFrame[];
  readonly reason: string;
  readonly data?: RemoteObject & { readonly uncaught?: boolean };
  readonly hitBreakpoints?: readonly string[];
  readonly asyncStackTrace?: AsyncStack;
}

export interface AsyncStack {
  readonly callFrames: readonly {
    readonly scriptId: string;
    readonly lineNumber: number;
    readonly columnNumber: number;
  }[];
  readonly parent?: AsyncStack;
}

export interface ScriptParsed {
  readonly scriptId: string;
  readonly url: string;
  readonly sourceMapURL?: string;
}
